//! What keeps a payout from being paid, said with what to do about it.

use far_ledger::{
    evm::{Address, U256},
    payout::{Funds, PayoutContract, StatusTotal, units},
};

use super::text::decimal;

/// What is planned and not yet taken from the treasury, in the token's units: a batch that is mined has had its share.
pub(super) fn unpaid(totals: &[StatusTotal]) -> U256 {
    let open = totals.iter().filter(|total| matches!(total.status.as_str(), "planned" | "signed" | "submitted"));
    open.fold(U256::zero(), |sum, total| sum.saturating_add(units(total.amount).into()))
}

/// What the treasury lacks for `needed`, in the token's units.
pub(super) fn of_funds(funds: &Funds, contract: &PayoutContract, needed: U256) -> Vec<String> {
    let Funds { token, treasury, held, allowance } = funds;
    let mut lacks = Vec::new();
    if *held < needed {
        let (more, held, needed) = (decimal(needed - held), decimal(*held), decimal(needed));
        lacks.push(format!("the treasury {treasury:?} holds {held} FAR and {needed} are needed: send it {more} FAR"));
    }
    if *allowance < needed {
        let (address, allowed) = (contract.address, decimal(*allowance));
        lacks.push(format!(
            "the payout contract may take {allowed} FAR from the treasury and {} are needed: {}",
            decimal(needed),
            approve(*token, address, needed)
        ));
    }
    lacks
}

/// How the treasury lets the contract take its tokens.
pub(super) fn approve(token: Address, contract: Address, least: U256) -> String {
    format!(
        "the treasury's owner calls approve({contract:?}, {least}) of the token {token:?}, or approves more (with foundry: \
         cast send {token:?} \"approve(address,uint256)\" {contract:?} {least})"
    )
}

/// How an account becomes a payer.
pub(super) fn not_a_payer(account: Address, contract: &PayoutContract) -> String {
    let contract = contract.address;
    format!(
        "{account:?} may not pay: the admin calls grantRole(keccak256(\"far.payer\"), {account:?}) of {contract:?} (with \
         foundry: cast send {contract:?} \"grantRole(bytes32,address)\" $(cast keccak far.payer) {account:?})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_said_with_how_much() {
        let funds = Funds {
            token: Address::repeat_byte(1),
            treasury: Address::repeat_byte(2),
            held: U256::exp10(18) * 5,
            allowance: U256::exp10(18) * 3,
        };
        let contract = PayoutContract { chain_id: 1, address: Address::repeat_byte(3) };
        assert!(of_funds(&funds, &contract, U256::exp10(18) * 3).is_empty());
        let lacks = of_funds(&funds, &contract, U256::exp10(18) * 4);
        assert!(
            matches!(&lacks[..], [one] if one.contains("may take 3 FAR") && one.contains("4 are needed")),
            "{lacks:?}"
        );
        let lacks = of_funds(&funds, &contract, U256::exp10(17) * 65);
        assert!(lacks[0].contains("send it 1.5 FAR") && lacks.len() == 2, "{lacks:?}");
    }
}
