use proptest::prelude::*;

use super::*;

const PATIENCE: u64 = 10;

fn me() -> Address {
    Address::repeat_byte(1)
}

fn id(index: u8) -> H256 {
    H256::repeat_byte(index)
}

fn digest(index: u8) -> H256 {
    H256::repeat_byte(index + 100)
}

fn batch(index: u8, status: Status) -> Batch {
    Batch { id: id(index), digest: digest(index), status }
}

fn slot(nonce: u64, owner: Owner, try_no: u32, signed_block: u64) -> Slot {
    let attempt = Attempt { hash: H256::zero(), fees: Fees { max_fee: 10, tip: 1 }, signed_block };
    Slot { sender: me(), nonce, owner, try_no, attempts: vec![attempt] }
}

fn pays(index: u8, nonce: u64, try_no: u32) -> Slot {
    slot(nonce, Owner::Batch(id(index)), try_no, 100)
}

struct Case {
    state: State,
    view: View,
}

/// One batch (index 1), a chain at block 100 on which nothing is paid and no nonce is spent.
fn case(status: Status, slots: Vec<Slot>) -> Case {
    let state = State { batches: vec![batch(1, status)], slots };
    Case { state, view: View { head: 100, ..View::default() } }.nonces(0, 0).guard(1, H256::zero(), H256::zero())
}

impl Case {
    fn nonces(mut self, latest: u64, deep: u64) -> Self {
        self.view.nonces.insert(me(), Seen { latest, deep });
        self
    }

    fn guard(mut self, index: u8, latest: H256, deep: H256) -> Self {
        self.view.guards.insert(id(index), Seen { latest, deep });
        self
    }

    fn head(mut self, head: u64) -> Self {
        self.view.head = head;
        self
    }

    fn does(&self, actions: &[Action]) {
        assert_eq!(decide(&self.state, &self.view, PATIENCE), actions);
    }
}

#[test]
fn a_planned_batch_is_signed() {
    case(Status::Planned, vec![]).does(&[Action::Sign { batch: id(1), try_no: 0 }]);
}

#[test]
fn a_stored_transaction_is_sent_until_its_nonce_is_spent() {
    for status in [Status::Signed, Status::Submitted] {
        case(status, vec![pays(1, 0, 0)]).does(&[Action::Send { slot: 0 }]);
    }
    // Spent in the newest block only: neither sent nor signed again.
    case(Status::Submitted, vec![pays(1, 0, 0)]).nonces(1, 0).does(&[]);
}

#[test]
fn a_payment_is_mined_first_and_confirmed_when_it_is_deep() {
    let paid = |status| case(status, vec![pays(1, 0, 0)]).nonces(1, 0).guard(1, digest(1), H256::zero());
    paid(Status::Submitted).does(&[Action::Mark { batch: id(1), status: Status::Mined }]);
    paid(Status::Mined).does(&[]);
    paid(Status::Mined).nonces(1, 1).guard(1, digest(1), digest(1)).does(&[Action::Confirm(id(1))]);
    // Even where this ledger never signed it: another one with our contract did.
    case(Status::Planned, vec![]).guard(1, digest(1), digest(1)).does(&[Action::Confirm(id(1))]);
}

#[test]
fn a_payment_that_a_reorganisation_took_back_is_sent_again() {
    case(Status::Mined, vec![pays(1, 0, 0)])
        .does(&[Action::Mark { batch: id(1), status: Status::Submitted }, Action::Send { slot: 0 }]);
}

#[test]
fn a_nonce_that_somebody_else_spent_is_replaced_only_when_that_is_deep() {
    let case = |latest, deep| case(Status::Submitted, vec![pays(1, 3, 0)]).nonces(latest, deep);
    case(4, 3).does(&[]);
    case(4, 4).does(&[Action::Sign { batch: id(1), try_no: 1 }]);
}

#[test]
fn all_nonces_of_a_batch_must_be_spent_before_it_gets_another() {
    let slots = vec![pays(1, 3, 0), pays(1, 5, 1)];
    let case = |latest, deep| case(Status::Submitted, slots.clone()).nonces(latest, deep);
    case(5, 4).does(&[Action::Send { slot: 1 }]);
    case(6, 5).does(&[]);
    case(6, 6).does(&[Action::Sign { batch: id(1), try_no: 2 }]);
}

#[test]
fn other_items_halt_a_batch_only_when_they_are_deep() {
    let other = digest(9);
    // Not deep: hold still, except that what is stored goes on being sent.
    case(Status::Planned, vec![]).guard(1, other, H256::zero()).does(&[]);
    case(Status::Planned, vec![]).guard(1, other, other).does(&[Action::Halt { batch: id(1), found: other }]);
}

#[test]
fn a_stuck_transaction_is_bumped_after_its_patience_and_only_the_first() {
    let mut two = case(Status::Submitted, vec![pays(1, 0, 0), pays(2, 1, 0)]).guard(2, H256::zero(), H256::zero());
    two.state.batches.push(batch(2, Status::Submitted));
    let sends = [Action::Send { slot: 0 }, Action::Send { slot: 1 }];
    two.does(&sends);
    let two = two.head(100 + PATIENCE - 1);
    two.does(&sends);
    two.head(100 + PATIENCE).does(&[Action::Bump { slot: 0 }, sends[0], sends[1]]);
}

#[test]
fn a_gap_is_closed_after_its_patience() {
    let gap = case(Status::Submitted, vec![pays(1, 7, 0)]).nonces(6, 5);
    gap.does(&[Action::Send { slot: 0 }]);
    gap.head(100 + PATIENCE).does(&[Action::Fill { sender: me(), nonce: 6 }, Action::Send { slot: 0 }]);
}

/// A settled batch's transaction still has its nonce: it goes out where an open batch waits behind it, and only there.
#[test]
fn a_settled_batch_is_sent_only_to_let_others_pass() {
    let mut behind = case(Status::Submitted, vec![pays(2, 0, 0), pays(1, 1, 0)]);
    behind.does(&[Action::Send { slot: 0 }, Action::Send { slot: 1 }]);
    behind.state.slots = vec![pays(1, 0, 0), pays(2, 1, 0)];
    behind.does(&[Action::Send { slot: 0 }]);
}

#[test]
fn what_was_not_read_is_left_alone() {
    let mut blind = case(Status::Submitted, vec![pays(1, 0, 0)]);
    blind.view.guards.clear();
    blind.view.nonces.clear();
    blind.does(&[]);
}

proptest! {
    /// Whatever state and chain meet: a batch that is paid is never signed, one with a live nonce never gets another, and
    /// nothing is settled that the deep block does not say is paid with these very items.
    #[test]
    fn nothing_is_signed_that_could_pay_twice(
        slots in proptest::collection::vec((0_u64..6, 0_u8..3, 0_u64..200), 0..6),
        status in 0_usize..4,
        guard in (0_usize..3, 0_usize..3),
        nonces in (0_u64..7, 0_u64..7),
        head in 0_u64..300,
    ) {
        let statuses = [Status::Planned, Status::Signed, Status::Submitted, Status::Mined];
        let values = [H256::zero(), digest(1), digest(9)];
        let mut tries = 0;
        let slots: Vec<Slot> = slots
            .into_iter()
            .map(|(nonce, owner, signed)| {
                tries += 1;
                slot(nonce, if owner == 0 { Owner::Fill } else { Owner::Batch(id(owner)) }, tries, signed)
            })
            .collect();
        let (latest, deep) = (values[guard.0], values[guard.1]);
        let nonces = (nonces.0.max(nonces.1), nonces.1);
        let case = case(statuses[status], slots.clone()).nonces(nonces.0, nonces.1).guard(1, latest, deep).head(head);
        for action in decide(&case.state, &case.view, PATIENCE) {
            match action {
                Action::Sign { batch, try_no } => {
                    prop_assert!(batch == id(1) && latest.is_zero() && deep.is_zero());
                    for slot in slots.iter().filter(|slot| slot.owner == Owner::Batch(batch)) {
                        prop_assert!(slot.nonce < nonces.1 && slot.try_no < try_no);
                    }
                }
                Action::Confirm(batch) => prop_assert!(batch == id(1) && deep == digest(1)),
                Action::Halt { found, .. } => prop_assert!(found == deep && deep == digest(9)),
                Action::Bump { slot } => prop_assert!(slots[slot].nonce == nonces.0),
                Action::Fill { nonce, .. } => {
                    prop_assert!(nonce == nonces.0 && slots.iter().all(|slot| slot.nonce != nonce));
                }
                Action::Send { slot } => prop_assert!(slots[slot].nonce >= nonces.0),
                Action::Mark { status, .. } => {
                    prop_assert!(matches!(status, Status::Mined | Status::Submitted));
                }
            }
        }
    }
}
