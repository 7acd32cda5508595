//! The end of a session: every hop hands in its last receipts, and the coordinator accounts for all of them.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Place, RemoteSession};
use crate::{
    hop::Account,
    peer::{
        remote::receipts::accepted,
        wire::{Frame, Link, Tally},
    },
};

/// How long hops get to hand in what is left beyond four round trips: they wait for each other's for at most a second.
const ACCOUNT_DEADLINE: Duration = Duration::from_millis(1200);

/// Frames that are taken from one hop at the end: more than it can have left.
const MAX_LAST_FRAMES: usize = 4096;

/// Ends the session at every hop and accounts for them, those included that left it.
///
/// What a hop is paid for are the positions with a receipt; what it says itself of its device's time is only shown, and
/// is never more than the session's own time.
pub(super) async fn close(mut session: RemoteSession) -> Vec<Account> {
    let patience = session.places.iter().map(|place| session.route.patience(place.hop.node)).max().unwrap_or_default();
    let deadline = Instant::now() + ACCOUNT_DEADLINE + patience;
    let mut switching = session.take_switching();
    let waits = session.places.iter_mut().map(|place| {
        let next = switching.take_if(|(node, _)| *node == place.hop.node).map(|(_, link)| link);
        async move {
            match &mut place.link {
                Some(link) => last_words(link, next, deadline).await,
                None => (Vec::new(), None),
            }
        }
    });
    let words = futures::future::join_all(waits).await;
    let mut said = Vec::new();
    for (at, (frames, tally)) in words.into_iter().enumerate() {
        said.push(tally);
        for frame in frames {
            if let Err(reason) = session.on_receipt(at, frame) {
                tracing::warn!(node = %session.places[at].hop.node, reason, "receipts are left out");
                break;
            }
        }
    }
    session.receipts.check_all().await;
    let (wall, done) = (session.opened.elapsed(), session.done_tokens as u32);
    // A place that nobody took again: what was asked of it is not done, and others do not get its share.
    for place in session.places.iter().filter(|place| place.link.is_none()) {
        session.receipts.left(&place.hop, place.from..done);
    }
    let present = || session.places.iter().zip(&said).filter(|(place, _)| place.link.is_some());
    let mut settlement = session.receipts.settle(present().map(|(place, _)| (&place.hop, place.from..done)));
    let mut accounts = std::mem::take(&mut session.mending.left);
    accounts.extend(present().map(|(place, tally)| of(place, *tally, wall)));
    // Of one span the one that was lost stays first.
    accounts.sort_by_key(|account| account.span.start());
    merge(&mut accounts);
    for account in &mut accounts {
        if let Some(node) = account.node {
            (account.tokens, account.counted) = accepted(&settlement, node, account.span);
            let mut hops = settlement.accepted.iter_mut();
            let hop = hops.find(|hop| (hop.node, hop.span) == (node, account.span));
            account.receipts = hop.map(|hop| std::mem::take(&mut hop.receipts)).unwrap_or_default();
        }
    }
    let in_route = |node| present().any(|(place, _)| Some(place.hop.node) == node);
    // The others left before they had finished anything.
    accounts.retain(|account| account.counted > 0 || in_route(account.node));
    accounts
}

/// Asks a hop for its account. Before it come outputs of steps that were under way, the word of a neighbour that left
/// earlier, and the last receipts. Where the stream was just ended by this side, over the `next` one.
async fn last_words(link: &mut Link, mut next: Option<Link>, deadline: Instant) -> (Vec<Frame>, Option<Tally>) {
    let mut frames = Vec::new();
    let asked = async {
        let mut link = link;
        if next.is_none() {
            link.send(Frame::Close).await.ok()?;
        }
        loop {
            match link.recv().await.ok()? {
                Frame::Tally(tally) => return Some(tally),
                Frame::Switch => {
                    link = next.as_mut()?;
                    link.send(Frame::Close).await.ok()?;
                }
                frame @ (Frame::Receipt(_) | Frame::Work(_)) if frames.len() < MAX_LAST_FRAMES => frames.push(frame),
                _ => {}
            }
        }
    };
    let tally = timeout_at(deadline, asked).await.ok().flatten();
    (frames, tally)
}

fn of(place: &Place, tally: Option<Tally>, wall: Duration) -> Account {
    let compute = tally.map_or(Duration::ZERO, |tally| Duration::from_micros(tally.compute_us).min(wall));
    let (node, span, exact) = (Some(place.hop.node), place.hop.span, place.exact);
    Account { node, span, tokens: 0, counted: 0, compute, exact, receipts: Vec::new() }
}

/// A node that left a place and took it again later has one account.
fn merge(accounts: &mut Vec<Account>) {
    let mut merged: Vec<Account> = Vec::with_capacity(accounts.len());
    for account in accounts.drain(..) {
        match merged.iter_mut().find(|known| (known.node, known.span) == (account.node, account.span)) {
            Some(known) => {
                known.compute += account.compute;
                known.exact &= account.exact;
            }
            None => merged.push(account),
        }
    }
    *accounts = merged;
}
