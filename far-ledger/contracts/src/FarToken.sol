// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title FAR, the token that providers are paid in
/// @notice 18 decimals; the ledger counts in units of 10^-9 FAR, which times 10^9 is exact here.
/// @dev The supply is fixed: all of it is minted once. An owner who may mint, pause or block would be one more key whose
/// loss touches every holder, and one more way for a payout to fail; an operator who needs other rules deploys a token of
/// their own, since FarPayout pays in any ERC-20.
contract FarToken is ERC20 {
    /// @param holder who gets the whole supply, as a rule the treasury
    /// @param supply in units of 10^-18 FAR
    constructor(address holder, uint256 supply) ERC20("Far", "FAR") {
        _mint(holder, supply);
    }
}
