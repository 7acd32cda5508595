// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {FarPayout} from "../src/FarPayout.sol";
import {FarToken} from "../src/FarToken.sol";
import {BlockingToken} from "./tokens/BlockingToken.sol";
import {Vm, vm} from "./Vm.sol";

contract FarPayoutTest {
    uint256 constant SUPPLY = 10 ** 27;
    address constant TREASURY = address(0x7EA5);
    address constant ADMIN = address(0xAD);
    address constant PAYER = address(0x9A1);
    address constant OTHER_PAYER = address(0x9A2);
    bytes32 constant BATCH = keccak256("batch");

    BlockingToken token;
    FarPayout payout;

    function setUp() public {
        token = new BlockingToken(TREASURY, SUPPLY);
        payout = payoutOf(IERC20(address(token)));
    }

    function payoutOf(IERC20 of_) internal returns (FarPayout made) {
        address[] memory payers = new address[](2);
        (payers[0], payers[1]) = (PAYER, OTHER_PAYER);
        made = new FarPayout(of_, TREASURY, ADMIN, payers);
        vm.prank(TREASURY);
        of_.approve(address(made), SUPPLY);
    }

    function item(address to, uint256 amount) internal pure returns (bytes memory) {
        return abi.encodePacked(to, uint96(amount));
    }

    function who(uint256 i) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode("who", i)))));
    }

    function batch(uint256 count) internal pure returns (bytes memory items) {
        for (uint256 i; i < count; ++i) items = bytes.concat(items, item(who(i), amountOf(i)));
    }

    function amountOf(uint256 i) internal pure returns (uint256) {
        return 10 ** 18 + i * 7 * 10 ** 9;
    }

    function pay(bytes32 id, bytes memory items) internal {
        vm.prank(PAYER);
        payout.pay(id, items);
    }

    function test_pays_each_item_and_keeps_the_digest() public {
        bytes memory items = batch(3);
        uint256 total = amountOf(0) + amountOf(1) + amountOf(2);
        vm.expectEmit();
        emit FarPayout.BatchPaid(BATCH, keccak256(items), 3, total);
        pay(BATCH, items);
        for (uint256 i; i < 3; ++i) require(token.balanceOf(who(i)) == amountOf(i), "amount");
        require(token.balanceOf(TREASURY) == SUPPLY - total, "treasury");
        require(token.balanceOf(address(payout)) == 0, "nothing stays");
        require(payout.paid(BATCH) == keccak256(items), "digest");
        require(payout.paid(keccak256("another")) == 0, "others are not paid");
    }

    function test_the_same_recipient_twice_gets_both() public {
        pay(BATCH, bytes.concat(item(who(1), 5), item(who(1), 6)));
        require(token.balanceOf(who(1)) == 11, "both");
    }

    function test_a_batch_is_paid_once() public {
        bytes memory items = batch(2);
        pay(BATCH, items);
        vm.expectRevert(abi.encodeWithSelector(FarPayout.AlreadyPaid.selector, BATCH, keccak256(items)));
        pay(BATCH, items);
        vm.expectRevert(abi.encodeWithSelector(FarPayout.AlreadyPaid.selector, BATCH, keccak256(items)));
        pay(BATCH, batch(1));
        vm.prank(OTHER_PAYER);
        vm.expectRevert(abi.encodeWithSelector(FarPayout.AlreadyPaid.selector, BATCH, keccak256(items)));
        payout.pay(BATCH, items);
        require(token.balanceOf(who(0)) == amountOf(0), "once");
        pay(keccak256("next week"), items);
        require(token.balanceOf(who(0)) == 2 * amountOf(0), "another batch");
    }

    function test_several_payers_and_nobody_else() public {
        vm.prank(OTHER_PAYER);
        payout.pay(BATCH, batch(1));
        bytes memory refusal =
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, TREASURY, payout.PAYER());
        vm.prank(TREASURY);
        vm.expectRevert(refusal);
        payout.pay(keccak256("x"), batch(1));
        bytes32 role = payout.PAYER();
        vm.prank(ADMIN);
        payout.revokeRole(role, PAYER);
        vm.prank(PAYER);
        vm.expectRevert();
        payout.pay(keccak256("x"), batch(1));
    }

    function test_lengths_are_checked() public {
        for (uint256 cut; cut < 3; ++cut) {
            bytes memory items = cut == 0 ? bytes("") : cut == 1 ? new bytes(33) : new bytes(501 * 32);
            vm.expectRevert(abi.encodeWithSelector(FarPayout.BadItems.selector, items.length));
            pay(BATCH, items);
        }
        pay(BATCH, batch(500));
        require(token.balanceOf(who(499)) == amountOf(499), "500 items are a batch");
    }

    function test_a_treasury_that_cannot_pay_leaves_the_batch_unpaid() public {
        vm.prank(TREASURY);
        token.approve(address(payout), amountOf(0) + amountOf(1) - 1);
        vm.prank(PAYER);
        vm.expectRevert();
        payout.pay(BATCH, batch(2));
        require(payout.paid(BATCH) == 0, "unpaid");
        require(token.balanceOf(who(0)) == 0, "nobody was paid");
    }

    function test_one_refused_recipient_does_not_stop_the_others() public {
        for (uint256 manner; manner < 3; ++manner) {
            setUp();
            token.setManner(BlockingToken.Manner(manner));
            token.block_(who(1), true);
            vm.expectEmit();
            emit FarPayout.Unpaid(BATCH, 1, who(1), amountOf(1));
            pay(BATCH, batch(3));
            require(token.balanceOf(who(0)) == amountOf(0) && token.balanceOf(who(2)) == amountOf(2), "the others");
            require(payout.credit(who(1)) == amountOf(1), "credit");
            require(token.balanceOf(address(payout)) == amountOf(1), "kept for it");
        }
    }

    function test_a_credit_leaves_once() public {
        token.block_(who(1), true);
        pay(BATCH, batch(2));
        vm.expectRevert();
        payout.release(who(1));
        require(payout.credit(who(1)) == amountOf(1), "a failed release keeps the credit");
        token.block_(who(1), false);
        payout.release(who(1));
        require(token.balanceOf(who(1)) == amountOf(1), "released");
        vm.expectRevert(abi.encodeWithSelector(FarPayout.NoCredit.selector, who(1)));
        payout.release(who(1));
        require(token.balanceOf(address(payout)) == 0, "nothing stays");
    }

    function test_the_owner_of_a_credit_may_send_it_elsewhere_and_nobody_else() public {
        token.block_(who(1), true);
        pay(BATCH, batch(2));
        vm.prank(who(0));
        vm.expectRevert(abi.encodeWithSelector(FarPayout.NoCredit.selector, who(0)));
        payout.claim(who(0));
        vm.prank(who(1));
        payout.claim(who(7));
        require(token.balanceOf(who(7)) == amountOf(1) && payout.credit(who(1)) == 0, "claimed");
    }

    function test_the_zero_address_gets_nothing_and_the_treasury_has_it_back() public {
        pay(BATCH, bytes.concat(item(address(0), 9), item(who(1), 5)));
        require(payout.credit(address(0)) == 9 && token.balanceOf(who(1)) == 5, "paid");
        payout.release(address(0));
        require(token.balanceOf(TREASURY) == SUPPLY - 5, "back");
    }

    /// With whatever gas the call is made, every recipient is paid or nobody is: none loses its transfer to a lack of gas.
    function test_too_little_gas_pays_nobody() public {
        bytes memory items = batch(20);
        uint256 paid;
        for (uint256 gas_ = 60_000; gas_ < 1_000_000; gas_ += 7_919) {
            bytes32 id = keccak256(abi.encode("gas", gas_));
            vm.prank(PAYER);
            (bool done,) = address(payout).call{gas: gas_}(abi.encodeCall(FarPayout.pay, (id, items)));
            require(done == (payout.paid(id) != 0), "guard");
            if (done) ++paid;
            for (uint256 i; i < 20; ++i) {
                require(token.balanceOf(who(i)) == paid * amountOf(i) && payout.credit(who(i)) == 0, "all or nobody");
            }
        }
        require(paid > 0 && paid < 118, "both happened");
    }

    function test_only_the_admin_moves_the_treasury() public {
        vm.expectRevert();
        payout.setTreasury(address(1));
        vm.prank(ADMIN);
        vm.expectRevert(abi.encodeWithSelector(FarPayout.ZeroAddress.selector));
        payout.setTreasury(address(payout));
        vm.prank(ADMIN);
        payout.setTreasury(address(1));
        require(payout.treasury() == address(1), "moved");
    }

    /// Any items, some of them refused: what left the treasury is what recipients have and have as credit.
    function testFuzz_nothing_is_lost(uint8 count, uint256 seed, uint256 blocked) public {
        vm.assume(count > 0);
        bytes memory items;
        uint256 total;
        for (uint256 i; i < count; ++i) {
            uint256 amount = uint256(keccak256(abi.encode(seed, i))) % 10 ** 24;
            if (blocked >> i & 1 == 1) token.block_(who(i), true);
            items = bytes.concat(items, item(who(i), amount));
            total += amount;
        }
        pay(BATCH, items);
        uint256 credits;
        for (uint256 i; i < count; ++i) {
            uint256 amount = uint256(keccak256(abi.encode(seed, i))) % 10 ** 24;
            bool refused = blocked >> i & 1 == 1;
            require(token.balanceOf(who(i)) == (refused ? 0 : amount), "balance");
            require(payout.credit(who(i)) == (refused ? amount : 0), "credit");
            credits += payout.credit(who(i));
        }
        require(token.balanceOf(TREASURY) == SUPPLY - total, "treasury");
        require(token.balanceOf(address(payout)) == credits, "credits are covered");
    }

    /// Whatever bytes come, a batch ends up paid with their digest, or not at all.
    function testFuzz_any_bytes(bytes32 id, bytes calldata items) public {
        vm.prank(PAYER);
        (bool done,) = address(payout).call(abi.encodeCall(FarPayout.pay, (id, items)));
        require(payout.paid(id) == (done ? keccak256(items) : bytes32(0)), "guard");
        require(!done || (items.length % 32 == 0 && items.length > 0), "length");
    }
}

contract FarTokenTest {
    function test_the_supply_is_fixed_and_held() public {
        FarToken far = new FarToken(address(0x7EA5), 10 ** 27);
        require(far.totalSupply() == 10 ** 27 && far.balanceOf(address(0x7EA5)) == 10 ** 27, "supply");
        require(far.decimals() == 18, "decimals");
        vm.prank(address(0x7EA5));
        vm.expectRevert();
        far.transfer(address(0), 1);
    }
}
