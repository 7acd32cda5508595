// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev A token that refuses some recipients, as regulated ones do: in the given way, and never the treasury.
contract BlockingToken is ERC20 {
    enum Manner {
        Revert,
        ReturnFalse,
        BurnGas
    }

    mapping(address => bool) public blocked;
    Manner public manner;

    constructor(address holder, uint256 supply) ERC20("Blocking", "BLK") {
        _mint(holder, supply);
    }

    function block_(address account, bool on) external {
        blocked[account] = on;
    }

    function setManner(Manner manner_) external {
        manner = manner_;
    }

    function transfer(address to, uint256 value) public override returns (bool) {
        if (!blocked[to]) return super.transfer(to, value);
        if (manner == Manner.ReturnFalse) return false;
        if (manner == Manner.BurnGas) {
            for (uint256 i; i < 100; ++i) blocked[address(uint160(i + 1))] = false;
        }
        revert("blocked");
    }
}
