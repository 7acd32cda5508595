//! Shows accounts with their balances and keys with what they used.

use std::{collections::HashMap, fmt::Write};

use far_ledger::{Account, Amount, KeyRow, Ledger, UnixMillis};
use serde::Serialize;

use super::KeysError;
use crate::{
    calendar,
    commands::{CommandError, print, print_json},
};

/// What is listed.
#[derive(Debug, Serialize)]
struct Listed {
    accounts: Vec<ListedAccount>,
}

#[derive(Debug, Serialize)]
struct ListedAccount {
    account: String,
    balance_far: String,
    reserved_far: String,
    available_far: String,
    wallet: Option<String>,
    created_at_ms: i64,
    keys: Vec<ListedKey>,
}

#[derive(Debug, Serialize)]
struct ListedKey {
    key: String,
    label: String,
    created_at_ms: i64,
    last_used_at_ms: Option<i64>,
    revoked_at_ms: Option<i64>,
    usage: Used,
}

/// What a key used since it was made.
#[derive(Clone, Debug, Default, Serialize)]
struct Used {
    sessions: u64,
    completion_tokens: u64,
    cost_far: Amount,
}

/// Lists all accounts, or one.
pub(super) async fn list(ledger: &Ledger, account: Option<&str>, json: bool) -> Result<(), CommandError> {
    let listed = gather(ledger, account).await?;
    if json { print_json(&listed) } else { print(&table(&listed)) }
}

async fn gather(ledger: &Ledger, account: Option<&str>) -> Result<Listed, KeysError> {
    let accounts = match account {
        None => ledger.accounts().await?,
        Some(name) => {
            let found = ledger.account(name).await?;
            vec![found.ok_or_else(|| KeysError::UnknownAccount { account: name.to_owned() })?]
        }
    };
    let mut keys = HashMap::<String, Vec<KeyRow>>::new();
    for row in ledger.keys(account).await? {
        keys.entry(row.account.clone()).or_default().push(row);
    }
    let mut listed = Listed { accounts: Vec::with_capacity(accounts.len()) };
    for account in accounts {
        let rows = keys.remove(&account.name).unwrap_or_default();
        let mut used = HashMap::<String, Used>::new();
        for day in ledger.usage(&account.name, UnixMillis::default(), UnixMillis::now()).await? {
            let sum = used.entry(day.key).or_default();
            sum.sessions = sum.sessions.saturating_add(day.sessions);
            sum.completion_tokens = sum.completion_tokens.saturating_add(day.tokens);
            sum.cost_far = sum.cost_far.checked_add(day.cost).unwrap_or(Amount::MAX);
        }
        listed.accounts.push(one(account, rows, &used));
    }
    Ok(listed)
}

fn one(account: Account, rows: Vec<KeyRow>, used: &HashMap<String, Used>) -> ListedAccount {
    let key = |row: KeyRow| ListedKey {
        usage: used.get(&row.id).cloned().unwrap_or_default(),
        key: row.id,
        label: row.label,
        created_at_ms: row.created_at.get(),
        last_used_at_ms: row.last_used_at.map(UnixMillis::get),
        revoked_at_ms: row.revoked_at.map(UnixMillis::get),
    };
    ListedAccount {
        balance_far: account.balance.to_string(),
        reserved_far: account.reserved.to_string(),
        available_far: account.available().to_string(),
        wallet: account.wallet.map(|wallet| wallet.to_string()),
        created_at_ms: account.created_at.get(),
        keys: rows.into_iter().map(key).collect(),
        account: account.name,
    }
}

fn table(listed: &Listed) -> String {
    if listed.accounts.is_empty() {
        return "no account yet: far-mesh keys create NAME opens one\n".to_owned();
    }
    let mut text = String::new();
    for account in &listed.accounts {
        let held = if account.reserved_far == "0" {
            String::new()
        } else {
            format!(", {} FAR of it held by running sessions", account.reserved_far)
        };
        let wallet = account.wallet.as_ref().map(|wallet| format!(", deposits from {wallet}")).unwrap_or_default();
        let _ = writeln!(text, "{}  {} FAR{held}{wallet}", account.account, account.balance_far);
        for key in &account.keys {
            let state = match (key.revoked_at_ms, key.last_used_at_ms) {
                (Some(at), _) => format!("revoked {}", when(at)),
                (None, Some(at)) => format!("used {}", when(at)),
                (None, None) => "never used".to_owned(),
            };
            let Used { sessions, completion_tokens, cost_far } = &key.usage;
            let _ = writeln!(
                text,
                "  {}  {state:24}  {sessions} sessions, {completion_tokens} tokens, {cost_far} FAR  {}",
                key.key, key.label
            );
        }
    }
    text
}

fn when(millis: i64) -> String {
    UnixMillis::new(millis).map(calendar::minute).unwrap_or_default()
}
