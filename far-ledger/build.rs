//! The migrations are compiled in: a new file must rebuild the crate, which `sqlx::migrate!` alone does not ask for.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
