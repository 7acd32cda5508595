//! Does what is asked to accounts and keys, in the coordinator's ledger, beside the coordinator.

use far_ledger::{
    Amount, Ledger, Posted, Store, UnixMillis, WalletAddress, key,
    store::{Location, PostError, TopUp, TopUpError},
};
use far_mesh_core::id::SessionId;
use serde_json::json;

use super::{super::books, KeysError, list};
use crate::{
    cli::{KeysArgs, KeysCommand},
    commands::{CommandError, join::make_folder, print, print_json},
    config::Config,
};

/// Characters of a key's name that are enough to mean it, `key_` included.
const LEAST: usize = 8;

/// Makes, lists or revokes keys, or tops up an account.
///
/// # Errors
/// [`CommandError`] with what is wrong and the remedy; nothing was changed then, but for [`KeysError::Unsure`].
pub async fn run(args: KeysArgs, config: Config) -> Result<(), CommandError> {
    let ledger = match &args.command {
        KeysCommand::Create { .. } => {
            let location = books::location(&config);
            if let Location::File(_) = location {
                make_folder(&config.data_dir)?;
            }
            Ledger::open(location).await?
        }
        _ => books::open(&config).await?,
    };
    let done = match args.command {
        KeysCommand::Create { account, label, wallet, json } => create(&ledger, &account, &label, wallet, json).await,
        KeysCommand::List { account, json } => list::list(&ledger, account.as_deref(), json).await,
        KeysCommand::Revoke { key, json } => revoke(&ledger, &key, json).await,
        KeysCommand::Topup { account, amount, reference, json } => {
            top_up(&ledger, account, amount, reference, json).await
        }
    };
    ledger.close().await;
    done
}

async fn create(
    ledger: &Ledger,
    account: &str,
    label: &str,
    wallet: Option<WalletAddress>,
    json: bool,
) -> Result<(), CommandError> {
    let now = UnixMillis::now();
    let opened = ledger.account(account).await.map_err(KeysError::from)?.is_none();
    ledger.create_account(account, now).await.map_err(KeysError::from)?;
    if let Some(wallet) = wallet {
        ledger.link_wallet(account, wallet).await.map_err(KeysError::from)?;
    }
    let made = ledger.create_key(account, label, now).await.map_err(KeysError::from)?;
    let secret = made.secret.expose();
    if json {
        let wallet = wallet.map(|wallet| wallet.to_string());
        return print_json(&json!({
            "account": account, "opened": opened, "key": made.id, "label": label, "wallet": wallet, "secret": secret,
        }));
    }
    let news = if opened { ", opened now: far-mesh keys topup adds FAR" } else { "" };
    print(&format!(
        "account  {account}{news}\nkey      {}\nsecret   {secret}\n\nThe secret is shown this once. Requests send it as \
         `Authorization: Bearer {}...`.\n",
        made.id,
        key::PREFIX
    ))
}

async fn revoke(ledger: &Ledger, text: &str, json: bool) -> Result<(), CommandError> {
    let rows = ledger.keys(None).await.map_err(KeysError::from)?;
    let found = meant(text, rows.iter().map(|row| row.id.as_str()))?;
    let row = rows.iter().find(|row| row.id == found).ok_or_else(|| KeysError::UnknownKey { key: text.to_owned() })?;
    ledger.revoke_key(found, UnixMillis::now()).await.map_err(KeysError::from)?;
    let before = row.revoked_at.is_some();
    if json {
        return print_json(&json!({ "key": found, "account": row.account, "revoked": true, "was_revoked": before }));
    }
    let said = if before { "was revoked before" } else { "is revoked: requests that come with it are refused" };
    print(&format!("{found} of account {} {said}\n", row.account))
}

/// The key whose name this is or begins with.
fn meant<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Result<&'a str, KeysError> {
    if text.starts_with(key::PREFIX) {
        return Err(KeysError::Secret);
    }
    let key = || text.chars().take(80).collect::<String>();
    if text.chars().count() < LEAST {
        return Err(KeysError::TooShort { key: key(), least: LEAST });
    }
    let found: Vec<_> = names.filter(|name| name.starts_with(text)).collect();
    match found.as_slice() {
        [] => Err(KeysError::UnknownKey { key: key() }),
        [one] => Ok(one),
        [first, second, ..] => Err(KeysError::Ambiguous {
            key: key(),
            count: found.len(),
            first: (*first).to_owned(),
            second: (*second).to_owned(),
        }),
    }
}

async fn top_up(
    ledger: &Ledger,
    account: String,
    amount: Amount,
    reference: Option<String>,
    json: bool,
) -> Result<(), CommandError> {
    let unknown = || KeysError::UnknownAccount { account: account.clone() };
    ledger.account(&account).await.map_err(KeysError::from)?.ok_or_else(unknown)?;
    // Nobody else names his top-up like this.
    let key = reference.unwrap_or_else(|| format!("topup-{}", SessionId::random()));
    let top_up = TopUp { account: account.clone(), amount, key, at: UnixMillis::now() };
    let posted = ledger.top_up(&top_up).await;
    let posted = posted.map_err(|source| not_added(&top_up, source))?;
    let read = ledger.account(&account).await;
    let now = read.map_err(|source| unsure(&top_up, TopUpError::Post(source.into())))?.ok_or_else(unknown)?;
    let (key, added) = (top_up.key, posted == Posted::Now);
    if json {
        return print_json(&json!({
            "account": account, "amount_far": amount.to_string(), "reference": key, "added": added,
            "balance_far": now.balance.to_string(),
        }));
    }
    let said = if added { "added to" } else { "were added before, and are not again, to" };
    print(&format!("{amount} FAR {said} account {account}, reference {key}; its balance is {} FAR\n", now.balance))
}

/// Why a top-up failed. Where the ledger's answer was lost it may be written all the same.
fn not_added(top_up: &TopUp, source: TopUpError) -> KeysError {
    match source {
        TopUpError::Backend(_) | TopUpError::Post(PostError::Backend(_)) => unsure(top_up, source),
        source => KeysError::TopUp { account: top_up.account.clone(), source: Box::new(source) },
    }
}

fn unsure(top_up: &TopUp, source: TopUpError) -> KeysError {
    let TopUp { account, key, .. } = top_up;
    KeysError::Unsure { account: account.clone(), reference: key.clone(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_meant_by_enough_of_its_name() {
        let names = ["key_00aa11", "key_00aa22", "key_ff0000"];
        let of = |text: &str| meant(text, names.into_iter());
        assert_eq!(of("key_ff00").unwrap(), "key_ff0000");
        assert_eq!(of("key_00aa22").unwrap(), "key_00aa22");
        assert!(matches!(of("key_00aa"), Err(KeysError::Ambiguous { count: 2, .. })));
        assert!(matches!(of("key_0000"), Err(KeysError::UnknownKey { .. })));
        assert!(matches!(of("key_"), Err(KeysError::TooShort { .. })));
        assert!(matches!(of(&format!("fl_{}", "0".repeat(64))), Err(KeysError::Secret)));
        // One that is the beginning of another is told from it by nothing: both are named.
        assert!(matches!(meant("key_00aa", ["key_00aa", "key_00aab"].into_iter()), Err(KeysError::Ambiguous { .. })));
    }
}
