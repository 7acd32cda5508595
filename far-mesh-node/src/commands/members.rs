//! `far-mesh members`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use far_mesh_core::{
    id::NodeId,
    peer::{Members, MembersError, identity, members},
};
use serde_json::json;

use super::{CommandError, print, print_json};
use crate::{
    cli::{MembersArgs, MembersCommand},
    config::Config,
};

/// Signs or shows a member list.
///
/// # Errors
/// [`CommandError`] when the list or the key cannot be used.
pub fn run(args: MembersArgs, config: &Config) -> Result<(), CommandError> {
    match args.command {
        MembersCommand::Sign { file, add, remove, key } => {
            let key = key.unwrap_or_else(|| config.data_dir.join("operator.key"));
            let list = sign(&file, &add, &remove, &key)?;
            print(&format!("version {} with {} nodes, signed by {}\n", list.version(), list.len(), list.operator()))
        }
        MembersCommand::Show { file, json } => show(&Members::read(&file)?, json),
    }
}

fn sign(file: &Path, add: &[NodeId], remove: &[NodeId], key: &Path) -> Result<Members, CommandError> {
    let old = match Members::read(file) {
        Ok(old) => Some(old),
        Err(MembersError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let key = identity::load_or_create(key)?;
    let mut nodes: BTreeSet<NodeId> = old.iter().flat_map(Members::nodes).copied().collect();
    nodes.extend(add);
    nodes.retain(|node| !remove.contains(node));
    let version = old.as_ref().map_or(1, |old| old.version().saturating_add(1));
    let text = members::sign(nodes, version, &key)?;
    let list = Members::parse(&text)?;
    if old.is_some_and(|old| old.operator() != list.operator()) {
        return Err(MembersError::Operator { got: list.operator() }.into());
    }
    replace(file, &text).map_err(|source| CommandError::Write { path: file.to_owned(), source })?;
    Ok(list)
}

/// Puts the text in place of the file at once: nodes read it at any moment.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".draft");
    let draft = PathBuf::from(draft);
    fs::write(&draft, text)?;
    fs::rename(draft, file)
}

fn show(list: &Members, json: bool) -> Result<(), CommandError> {
    let nodes = list.nodes().map(ToString::to_string).collect::<BTreeSet<_>>();
    if json {
        let operator = list.operator().to_string();
        return print_json(&json!({ "version": list.version(), "operator": operator, "nodes": nodes }));
    }
    let mut text = format!("version {}, signed by {}\n", list.version(), list.operator());
    nodes.iter().for_each(|node| text.extend([node, "\n"]));
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_grows_and_shrinks_under_one_operator() {
        let dir = tempfile::tempdir().unwrap();
        let (file, key) = (dir.path().join("mesh.members"), dir.path().join("operator.key"));
        let [a, b] = [NodeId::random(), NodeId::random()];
        let list = sign(&file, &[a, b], &[], &key).unwrap();
        assert_eq!((list.version(), list.len()), (1, 2));
        let list = sign(&file, &[], &[a], &key).unwrap();
        assert_eq!((list.version(), list.contains(&a), list.contains(&b)), (2, false, true));
        assert_eq!(Members::read(&file).unwrap(), list);
        let other = sign(&file, &[a], &[], &dir.path().join("other.key")).unwrap_err();
        assert!(matches!(other, CommandError::Members(MembersError::Operator { .. })), "{other}");
        assert_eq!(Members::read(&file).unwrap(), list, "what was refused changed nothing");
    }
}
