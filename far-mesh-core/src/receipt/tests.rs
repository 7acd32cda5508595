//! Receipts of honest sessions, and of every lie that has a name.

use libp2p::identity::Keypair;
use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    activation::Activation,
    hop::{Input, Rows},
    id::{ModelHash, NodeId, SessionId, Span},
    limits::MAX_RECEIPT_TOKENS,
};

mod cost;

const SESSION: SessionId = SessionId([5; 16]);
const MODEL: ModelHash = ModelHash([7; 32]);
const LAYERS: u32 = 30;
const HIDDEN: usize = 8;

fn key(number: u8) -> Keypair {
    Keypair::ed25519_from_bytes([number; 32]).unwrap()
}

fn id(number: u8) -> NodeId {
    key(number).public().to_peer_id()
}

/// The keys of a mesh: the coordinator is 0, the hop of layers `10 n - 10..10 n` is `n`.
fn span(hop: u8) -> Span {
    Span::new(u32::from(hop) * 10 - 10, u32::from(hop) * 10).unwrap()
}

/// The rows that hop `hop` gives: they depend on hop and position alone.
fn rows(hop: u8, position: u32, tokens: u32) -> Activation {
    let value = |at: u32| (0..HIDDEN).map(move |column| f32::from(hop) + at as f32 + column as f32 / 10.0);
    Activation::from_f32(tokens as usize, HIDDEN, (position..position + tokens).flat_map(value).collect()).unwrap()
}

fn ids(position: u32, tokens: u32) -> Input {
    Input::Tokens((position..position + tokens).map(|at| at * 3).collect())
}

/// A session as its three hops and its coordinator saw it.
struct Run {
    receipts: Vec<Receipt>,
    sent: Committer,
    received: Committer,
    tokens: u32,
}

/// Runs a session of steps with these numbers of positions.
fn run(steps: &[u32]) -> Run {
    let (mut sent, mut received) = (Committer::new(SESSION), Committer::new(SESSION));
    let class = || "cpu-f32-1".to_owned();
    let mut logs = [1, 2, 3].map(|hop| Worklog::new(SESSION, MODEL, id(hop), id((hop + 1) % 4), span(hop), class()));
    let (mut receipts, mut position) = (Vec::new(), 0);
    for (seq, &tokens) in steps.iter().enumerate() {
        // As in a prompt of many chunks: only its last gives a row back.
        let asked = if tokens > 1 && seq + 1 < steps.len() { Rows::None } else { Rows::Last };
        let last = (asked == Rows::Last).then(|| rows(3, position + tokens - 1, 1));
        sent.input(position, &ids(position, tokens)).unwrap();
        for (log, hop) in logs.iter_mut().zip(1u8..) {
            let into =
                if hop == 1 { ids(position, tokens) } else { Input::Activation(rows(hop - 1, position, tokens)) };
            let out = if hop == 3 { last.clone() } else { Some(rows(hop, position, tokens)) };
            log.took(position, &into).unwrap();
            log.gave(seq as u64, position, tokens as usize, out.as_ref()).unwrap();
        }
        received.output(position, tokens as usize, last.as_ref()).unwrap();
        position += tokens;
    }
    for hop in 1..=3u8 {
        let at = usize::from(hop) - 1;
        let mut works = Vec::new();
        while let Some(work) = logs[at].full() {
            works.push(work);
        }
        works.extend(logs[at].rest());
        let behind = logs.get(at + 1).map_or(&received, Worklog::received);
        let witnessed = works
            .into_iter()
            .map(|work| Signed::sign(work, &key(hop)).unwrap().witness(&id(hop), behind, &key((hop + 1) % 4)).unwrap());
        receipts.extend(witnessed);
    }
    Run { receipts, sent, received, tokens: position }
}

impl Run {
    fn hops(&self) -> Vec<Counted> {
        let hop = |hop| {
            let (node, span, kernel_class) = (id(hop), span(hop), "cpu-f32-1".to_owned());
            Counted { node, span, kernel_class, positions: 0..self.tokens }
        };
        (1..=3).map(hop).collect()
    }

    fn settle(&self, receipts: &[Receipt], hops: &[Counted]) -> Settlement {
        let mut tally = Tally::new(SESSION, MODEL, 1000);
        receipts.iter().for_each(|receipt| tally.take(receipt.clone()).unwrap());
        tally.settle(&self.count(hops))
    }

    fn count<'a>(&'a self, hops: &'a [Counted]) -> Count<'a> {
        Count {
            coordinator: id(0),
            layers: LAYERS,
            hops,
            sent: &self.sent,
            received: std::slice::from_ref(&self.received),
        }
    }

    /// Settles with one receipt signed anew by both after `change`; gives back what was refused.
    fn lie(&self, at: usize, hops: &[Counted], change: impl FnOnce(&mut Work)) -> Vec<Refusal> {
        let mut receipts = self.receipts.clone();
        let mut work = receipts[at].work().clone();
        change(&mut work);
        receipts[at] = collude(work);
        self.settle(&receipts, hops).refused.into_iter().map(|refused| refused.reason).collect()
    }
}

/// Signs as hop and witness without looking.
fn collude(work: Work) -> Receipt {
    let key_of = |node| (0..=9).map(key).find(|key| key.public().to_peer_id() == node).unwrap();
    let (hop, witness) = (key_of(work.node), key_of(work.witness));
    let signed = Signed::sign(work, &hop).unwrap();
    let mut bytes = signed.to_bytes().unwrap();
    let message = [b"far-mesh receipt 1 witness\0".as_slice(), &bytes].concat();
    bytes.extend(witness.sign(&message).unwrap());
    Receipt::from_bytes(&bytes).unwrap()
}

fn tokens(settlement: &Settlement) -> Vec<u64> {
    settlement.accepted.iter().map(|accepted| accepted.tokens).collect()
}

#[test]
fn an_honest_session_is_accepted_whole_however_it_was_cut() {
    let (whole, cut) = (run(&[64, 40, 1, 1, 1]), run(&[7, 33, 64, 1, 1, 1]));
    for session in [&whole, &cut] {
        let settlement = session.settle(&session.receipts, &session.hops());
        assert_eq!((tokens(&settlement), settlement.refused.len()), (vec![107; 3], 0));
        assert!(settlement.accepted.iter().all(|accepted| accepted.counted == 107));
        assert_eq!(session.receipts.len(), 3 * 4);
    }
    // Between hops every row crosses, whatever the chunks: the same commitments.
    let commitments = |run: &Run| {
        let works = run.receipts.iter().map(Receipt::work).filter(|work| work.node != id(3));
        works.map(|work| (work.node, work.position, work.input, work.output)).collect::<Vec<_>>()
    };
    assert_eq!(commitments(&whole), commitments(&cut));
    assert_eq!((whole.receipts[1].work().first_seq, whole.receipts[1].work().last_seq), (0, 0));
    assert_eq!((whole.receipts[3].work().first_seq, whole.receipts[3].work().last_seq), (1, 4));
}

#[test]
fn a_witness_signs_only_what_came_to_it() {
    let session = run(&[40]);
    let mut other = Committer::new(SESSION);
    other.input(0, &Input::Activation(rows(9, 0, 40))).unwrap();
    let signed = |at: usize| Signed::sign(session.receipts[at].work().clone(), &key(1)).unwrap();
    let differs = signed(0).witness(&id(1), &other, &key(2)).unwrap_err();
    assert!(matches!(differs, SignError::Work(Refusal::Output { .. })), "{differs}");
    let mut same = Committer::new(SESSION);
    same.input(0, &Input::Activation(rows(1, 0, 20))).unwrap();
    assert!(signed(0).witness(&id(1), &same, &key(2)).is_err(), "rows that have not come");
    same.input(20, &Input::Activation(rows(1, 20, 30))).unwrap();
    assert!(signed(0).witness(&id(1), &same, &key(2)).is_ok());
    assert!(signed(1).witness(&id(1), &same, &key(2)).is_ok(), "a cell that ended before what came");
    assert!(signed(0).witness(&id(3), &same, &key(2)).is_err(), "another node's work");
    assert!(signed(0).witness(&id(1), &same, &key(3)).is_err(), "another witness's word");
    let foreign = Committer::new(SessionId([6; 16]));
    assert!(matches!(
        signed(0).witness(&id(1), &foreign, &key(2)).unwrap_err(),
        SignError::Work(Refusal::Session { .. })
    ));
    assert!(Signed::sign(session.receipts[0].work().clone(), &key(2)).is_err(), "another node's key");
}

#[test]
fn a_replay_changes_no_commitment_and_a_hole_is_named() {
    let mut commits = Committer::new(SESSION);
    commits.input(0, &ids(0, 40)).unwrap();
    let (full, open) = (commits.at(Cell(0), 32), commits.at(Cell(1), 8));
    commits.input(30, &ids(30, 10)).unwrap();
    assert_eq!((commits.next(), commits.at(Cell(0), 32), commits.at(Cell(1), 8)), (40, full, open));
    assert_eq!(commits.input(41, &ids(41, 1)), Err(GapError { got: 41, due: 40 }));
    commits.input(35, &ids(35, 30)).unwrap();
    assert_eq!((commits.next(), commits.at(Cell(1), 8), commits.at(Cell(0), 8)), (65, open, None));
    assert!(full.is_some() && open.is_some() && full != open);
}

#[test]
fn every_lie_of_two_neighbours_has_its_name() {
    let session = run(&[64, 40]);
    let hops = session.hops();
    let check = |at: usize, change: &dyn Fn(&mut Work), want: &str| {
        let refused = session.lie(at, &hops, change);
        let names: Vec<_> =
            refused.iter().map(|r| format!("{r:?}").split(' ').next().unwrap_or("").to_owned()).collect();
        assert!(names.contains(&want.to_owned()), "{want}: {refused:?}");
    };
    // Receipts 0..4 are the first hop's, 4..8 the second's, 8..12 the last's.
    check(4, &|work| work.span = Span::new(10, 21).unwrap(), "Stranger");
    check(4, &|work| work.node = id(9), "Stranger");
    check(4, &|work| work.kernel_class = "gpu".into(), "Class");
    check(7, &|work| work.position = 128, "NotCounted");
    check(4, &|work| (work.tokens, work.last_seq) = (31, 0), "Partial");
    check(4, &|work| work.witness = id(1), "Witness");
    check(4, &|work| work.witness = id(0), "Witness");
    check(8, &|work| work.witness = id(2), "Witness");
    check(0, &|work| work.input = Commitment([1; 32]), "Input");
    check(4, &|work| work.input = Commitment([1; 32]), "Input");
    check(0, &|work| work.output = Commitment([1; 32]), "Input");
    check(8, &|work| work.output = Commitment([1; 32]), "Output");
}

#[test]
fn more_than_was_counted_is_never_accepted() {
    let session = run(&[64, 40, 1, 1]);
    let mut hops = session.hops();
    hops.iter_mut().for_each(|hop| hop.positions.end = 100);
    let settlement = session.settle(&session.receipts, &hops);
    assert_eq!(tokens(&settlement), [100; 3]);
    // Counted twice by mistake is counted once.
    hops.extend(hops.clone());
    assert_eq!(tokens(&session.settle(&session.receipts, &hops)), [100; 3]);
    // What is missing shows.
    let settlement = session.settle(&session.receipts[1..], &session.hops());
    assert_eq!((settlement.accepted[0].tokens, settlement.accepted[0].counted), (74, 106));
    assert_eq!(settlement.accepted[1].tokens, 106, "its neighbour is paid");
}

#[test]
fn a_hop_that_took_over_is_paid_from_where_it_did() {
    // Hop 2 was lost after two cells; 5 ran everything again and went on.
    let session = run(&[64, 32, 10]);
    let mut hops = session.hops();
    hops[1].positions = 0..64;
    hops.push(Counted { node: id(5), positions: 64..106, ..hops[1].clone() });
    let again = session.receipts[4..8].iter().map(|receipt| collude(Work { node: id(5), ..receipt.work().clone() }));
    let first = session.receipts[..4].iter().map(|receipt| match receipt.work().position {
        0..64 => receipt.clone(),
        _ => collude(Work { witness: id(5), ..receipt.work().clone() }),
    });
    let rest = session.receipts[8..].iter().cloned();
    let receipts: Vec<_> = first.chain(session.receipts[4..6].iter().cloned()).chain(again).chain(rest).collect();
    let settlement = session.settle(&receipts, &hops);
    let by_node = |node| settlement.accepted.iter().find(|accepted| accepted.node == node).unwrap().tokens;
    assert_eq!([1, 2, 5, 3].map(|hop| by_node(id(hop))), [106, 64, 42, 106]);
    let refused: Vec<_> = settlement.refused.iter().map(|refused| &refused.reason).collect();
    assert!(matches!(refused[..], [Refusal::NotCounted { .. }, Refusal::NotCounted { .. }]), "{refused:?}");
}

#[test]
fn the_greatest_receipt_has_the_documented_size() {
    let mut work = run(&[32]).receipts[0].work().clone();
    work.kernel_class = "x".repeat(MAX_CLASS_BYTES);
    let receipt = collude(work.clone());
    assert_eq!(receipt.to_bytes().unwrap().len(), MAX_RECEIPT_BYTES);
    assert_eq!(Signed::sign(work.clone(), &key(1)).unwrap().to_bytes().unwrap().len(), MAX_SIGNED_BYTES);
    work.kernel_class.push('x');
    assert!(matches!(Signed::sign(work, &key(1)), Err(SignError::Work(Refusal::Field { .. }))));
    assert_eq!(MAX_RECEIPT_BYTES, 427);
}

/// Every field of a work, changed to another value that an honest work could have.
fn changes() -> Vec<fn(&mut Work)> {
    vec![
        |work| work.session.0[3] ^= 1,
        |work| work.model.0[31] ^= 1,
        |work| work.node = id(9),
        |work| work.witness = id(9),
        |work| work.span = Span::new(work.span.start(), work.span.end() + 1).unwrap(),
        |work| work.span = Span::new(work.span.start() + 1, work.span.end()).unwrap(),
        |work| work.kernel_class.push('x'),
        |work| work.kernel_class = String::new(),
        |work| (work.first_seq, work.last_seq) = (work.first_seq + 1, work.last_seq + 1),
        |work| work.last_seq += 1,
        |work| work.position += MAX_RECEIPT_TOKENS,
        |work| work.tokens -= 1,
        |work| work.input.0[0] ^= 1,
        |work| work.output.0[0] ^= 1,
    ]
}

#[test]
fn every_field_is_under_both_signatures() {
    let session = run(&[64]);
    let genuine = &session.receipts[3];
    let bytes = genuine.to_bytes().unwrap();
    genuine.verify().unwrap();
    for change in changes() {
        let mut work = genuine.work().clone();
        change(&mut work);
        assert_ne!(&work, genuine.work());
        let mut forged = encoding::encode(&work).unwrap();
        forged.extend_from_slice(&bytes[bytes.len() - 2 * encoding::SIGNATURE_BYTES..]);
        let refused = Receipt::from_bytes(&forged).unwrap().verify();
        assert!(matches!(refused, Err(Refusal::Signature { .. })), "{refused:?}: {work:?}");
    }
    // The hop's own signature again is not the witness's.
    let signature =
        bytes[bytes.len() - 2 * encoding::SIGNATURE_BYTES..bytes.len() - encoding::SIGNATURE_BYTES].to_vec();
    let forged = [&bytes[..bytes.len() - encoding::SIGNATURE_BYTES], &signature].concat();
    assert!(Receipt::from_bytes(&forged).unwrap().verify().is_err());
}

#[test]
fn foreign_and_surplus_receipts_stay_outside() {
    let session = run(&[64]);
    let mut other_session = Tally::new(SessionId([6; 16]), MODEL, 9);
    assert!(matches!(other_session.take(session.receipts[0].clone()), Err(Refusal::Session { .. })));
    let mut other_model = Tally::new(SESSION, ModelHash([8; 32]), 9);
    assert!(matches!(other_model.take(session.receipts[0].clone()), Err(Refusal::Model { .. })));
    let mut small = Tally::new(SESSION, MODEL, 1);
    small.take(session.receipts[0].clone()).unwrap();
    assert_eq!(small.take(session.receipts[1].clone()), Err(Refusal::TooMany { limit: 1 }));
    assert!(matches!(small.take(session.receipts[0].clone()), Err(Refusal::Replayed { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_changed_byte_is_always_refused(at in any::<Index>(), flip in 1u8..=255, cut in any::<Index>()) {
        let bytes = run(&[40]).receipts[4].to_bytes().unwrap();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= flip;
        prop_assert!(Receipt::from_bytes(&changed).and_then(|receipt| receipt.verify()).is_err());
        prop_assert!(Receipt::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(Receipt::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn bytes_of_a_liar_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let mut with_version = bytes.clone();
        with_version.insert(0, 1);
        for bytes in [bytes, with_version] {
            if let Ok(receipt) = Receipt::from_bytes(&bytes) {
                prop_assert!(receipt.verify().is_err());
            }
        }
    }

    #[test]
    fn neither_order_nor_repetition_changes_what_is_accepted(
        order in Just((0..16usize).collect::<Vec<_>>()).prop_shuffle(),
        repeated in proptest::collection::vec(any::<Index>(), 0..8),
        counted in 1u32..104,
    ) {
        let session = run(&[64, 40]);
        let mut all = session.receipts.clone();
        // Second words of the same nodes on the same cells, and a lie about an input.
        all.extend([1, 4, 9].map(|at: usize| collude(Work { first_seq: 0, last_seq: 2, ..all[at].work().clone() })));
        all.push(collude(Work { input: Commitment([3; 32]), ..all[6].work().clone() }));
        let mut hops = session.hops();
        hops[1].positions.end = counted;
        let settle = |receipts: &mut dyn Iterator<Item = &Receipt>| {
            let mut tally = Tally::new(SESSION, MODEL, 1000);
            let refused = receipts.filter(|receipt| tally.take((*receipt).clone()).is_err()).count();
            (tally.settle(&session.count(&hops)), refused)
        };
        let (straight, refused) = settle(&mut all.iter());
        prop_assert_eq!(refused, 4);
        let shuffled = order.iter().chain(repeated.iter().map(|index| &order[index.index(order.len())]));
        let (mixed, refused) = settle(&mut shuffled.map(|at| &all[*at]));
        prop_assert_eq!(mixed, straight);
        prop_assert_eq!(refused, 4 + repeated.len());
    }

    #[test]
    fn rows_have_the_same_commitments_in_whatever_chunks(cuts in proptest::collection::vec(1u32..70, 1..8)) {
        let mut chunks = Committer::new(SESSION);
        let mut singly = Committer::new(SESSION);
        for tokens in cuts {
            let at = chunks.next();
            chunks.input(at, &Input::Activation(rows(1, at, tokens))).unwrap();
            for position in at..at + tokens {
                singly.output(position, 1, Some(&rows(1, position, 1))).unwrap();
            }
            for cell in 0..=Cell::of(at + tokens).0 {
                for tokens in 1..=MAX_RECEIPT_TOKENS {
                    prop_assert_eq!(chunks.at(Cell(cell), tokens), singly.at(Cell(cell), tokens));
                }
            }
        }
    }
}
