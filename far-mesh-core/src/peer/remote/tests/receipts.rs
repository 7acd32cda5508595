//! Who is paid for what: receipts as they go over a route.

use std::sync::Arc;

use libp2p::identity::Keypair;

use super::fabric::{Mesh, generate, generate_locally};
use crate::{
    hop::{Account, Input},
    id::{ModelHash, SessionId},
    peer::{ServeConfig, serve},
    receipt::{Cell, Committer, Receipt, Signed, Work},
};

/// Positions of a session's prompt, in chunks that end within cells, and tokens behind it: four cells and a part.
const CHUNKS: [usize; 3] = [40, 40, 11];
const DECODE: usize = 50;
const ALL: u64 = 141;

async fn accounts(mesh: &Mesh) -> Vec<Account> {
    let mut session = mesh.open().await;
    let outputs = generate(session.as_mut(), 5, &CHUNKS, DECODE).await;
    assert_eq!(outputs, generate_locally(mesh.hops.len() as u32, 5, &CHUNKS, DECODE).await);
    session.close().await.unwrap()
}

fn paid(accounts: &[Account]) -> Vec<(u64, u64)> {
    accounts.iter().map(|account| (account.tokens, account.counted)).collect()
}

/// Gives a hop another key than the one it is known by.
fn with_a_foreign_key(mesh: &mut Mesh, at: usize) {
    let (incoming, hop) = (mesh.fabric.listen(mesh.node(at)), Arc::new(mesh.mocks[at].clone()));
    let port = mesh.fabric.port(mesh.node(at)).with_key(Keypair::generate_ed25519());
    mesh.servers[at] = serve(Arc::new(port), incoming, hop, ServeConfig::default());
}

#[tokio::test(start_paused = true)]
async fn every_position_of_every_hop_has_a_receipt() {
    for cuts in [&[0, 1][..], &[0, 1, 2], &[0, 1, 2, 3], &[0, 1, 2, 3, 4, 5]] {
        let mesh = Mesh::new(cuts);
        let accounts = accounts(&mesh).await;
        assert_eq!(paid(&accounts), vec![(ALL, ALL); cuts.len() - 1]);
        for account in &accounts {
            let positions: u32 = account.receipts.iter().map(|receipt| receipt.work().tokens).sum();
            assert_eq!(u64::from(positions), ALL, "the receipts behind the account come with it");
            for receipt in &account.receipts {
                assert_eq!((Some(receipt.work().node), receipt.work().span), (account.node, account.span));
                let (hop, witness) = (*receipt.hop_signature(), *receipt.witness_signature());
                let kept = Receipt::from_parts(receipt.work().clone(), hop, witness);
                assert_eq!((&kept, kept.verify()), (receipt, Ok(())), "what is kept of it can be checked again");
                assert!(Receipt::from_parts(receipt.work().clone(), witness, hop).verify().is_err());
            }
        }
        mesh.all_free().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_sign_is_not_paid_and_its_neighbour_lacks_a_witness() {
    for (at, unpaid) in [(0, &[0][..]), (1, &[0, 1]), (2, &[1, 2])] {
        let mut mesh = Mesh::new(&[0, 1, 2, 3]);
        with_a_foreign_key(&mut mesh, at);
        let want: Vec<_> = (0..3).map(|hop| (if unpaid.contains(&hop) { 0 } else { ALL }, ALL)).collect();
        assert_eq!(paid(&accounts(&mesh).await), want, "hop {at}");
        mesh.all_free().await;
    }
}

/// A work that was never done.
pub(super) fn invented() -> Signed {
    let (key, session) = (Keypair::generate_ed25519(), SessionId([9; 16]));
    let mut rows = Committer::new(session);
    rows.input(0, &Input::Tokens(vec![1, 2])).unwrap();
    let said = rows.at(Cell(0), 2).unwrap();
    let work = Work {
        session,
        model: ModelHash([7; 32]),
        node: key.public().to_peer_id(),
        witness: Keypair::generate_ed25519().public().to_peer_id(),
        span: "0..1".parse().unwrap(),
        kernel_class: "mock".to_owned(),
        first_seq: 0,
        last_seq: 0,
        position: 0,
        tokens: 2,
        input: said,
        output: said,
    };
    Signed::sign(work, &key).unwrap()
}
