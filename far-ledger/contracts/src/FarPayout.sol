// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title Pays batches of providers, each batch at most once
/// @notice A ledger closes a week, cuts it into batches and calls `pay` for each. It may crash, repeat itself, run three
/// times at once or lose every answer: `paid` is the final word on whether a batch was paid, and with which items.
///
/// @dev Where the money is. The treasury keeps it and approves this contract, for as much as its operator wants to risk.
/// `pay` takes a batch's total in one transfer and hands it out from its own balance, which costs less for each item than a
/// `transferFrom` from the treasury. What remains here afterwards belongs to recipients that could not be paid.
///
/// Who can do what. A payer can pay any batch it likes from the allowance, so a payer's key is worth the allowance. The
/// admin names payers and the treasury, and touches nobody's credit.
///
/// Reentrancy. The guard is written before any transfer, so a token that calls back finds the batch paid; `release` and
/// `claim` take the credit away before they transfer.
contract FarPayout is AccessControl {
    using SafeERC20 for IERC20;

    /// @notice Role of those who may call `pay`; several keys may hold it.
    bytes32 public constant PAYER = keccak256("far.payer");

    /// @notice Most items of a batch.
    uint256 public constant MAX_ITEMS = 500;

    /// @dev Bytes of an item: address (20), amount (12).
    uint256 private constant ITEM_BYTES = 32;

    /// @dev Gas that must be left before each transfer. A call gets 63/64 of what is left, so without a floor a payer who
    /// sends too little gas would make a transfer fail that nothing is wrong with, and the rest of the batch would go on.
    /// A transfer of FAR takes 35,000 at most, one of a token behind a proxy twice that. Below the floor the whole batch
    /// reverts and its guard stays empty.
    uint256 private constant GAS_FLOOR = 100_000;

    /// @notice What providers are paid in.
    IERC20 public immutable token;

    /// @notice Whose allowance batches are paid from.
    address public treasury;

    /// @notice keccak256 of the items a batch was paid with; zero while it is not paid.
    mapping(bytes32 batchId => bytes32 digest) public paid;

    /// @notice What could not be sent to an account and waits for it here.
    mapping(address account => uint256 amount) public credit;

    /// @notice A batch was paid: `count` items, `total` in the token's units, credits included.
    event BatchPaid(bytes32 indexed batchId, bytes32 digest, uint256 count, uint256 total);

    /// @notice An item of a paid batch could not be sent and became a credit of `to`.
    event Unpaid(bytes32 indexed batchId, uint256 index, address indexed to, uint256 amount);

    /// @notice A credit left.
    event Released(address indexed account, address indexed destination, uint256 amount);

    /// @notice Batches are paid from another account from now on.
    event TreasuryChanged(address treasury);

    /// @notice The batch was paid before, with the items of this digest.
    error AlreadyPaid(bytes32 batchId, bytes32 digest);

    /// @notice Items are 32 bytes each, at least 1 and at most MAX_ITEMS.
    error BadItems(uint256 length);

    /// @notice The transaction was sent with too little gas for its items.
    error TooLittleGas(uint256 index);

    /// @notice The account has no credit.
    error NoCredit(address account);

    /// @notice An address that must be somebody is zero.
    error ZeroAddress();

    constructor(IERC20 token_, address treasury_, address admin, address[] memory payers) {
        if (address(token_) == address(0) || admin == address(0)) revert ZeroAddress();
        token = token_;
        _setTreasury(treasury_);
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        for (uint256 i; i < payers.length; ++i) _grantRole(PAYER, payers[i]);
    }

    /// @notice Pays a batch. A second call for the same batch reverts, whatever its items.
    /// @dev Reverting rather than doing nothing: a simulation shows a useless transaction before it is sent, and a mined one
    /// is seen to have failed. A reader learns nothing from the transaction's status anyway; it asks `paid`.
    ///
    /// A recipient that cannot be paid (the token refuses it) does not stop the others: its amount becomes its credit. So a
    /// batch is paid as a whole or not at all for the ledger, which needs no event to know what happened.
    /// @param batchId the ledger's name of the batch
    /// @param items for each item the recipient (20 bytes) and the amount (12 bytes, big endian, in the token's units)
    function pay(bytes32 batchId, bytes calldata items) external onlyRole(PAYER) {
        bytes32 before = paid[batchId];
        if (before != 0) revert AlreadyPaid(batchId, before);
        uint256 count = items.length / ITEM_BYTES;
        if (count == 0 || count > MAX_ITEMS || items.length % ITEM_BYTES != 0) revert BadItems(items.length);
        bytes32 digest = keccak256(items);
        paid[batchId] = digest;

        uint256 total = _total(items, count);
        token.safeTransferFrom(treasury, address(this), total);
        for (uint256 i; i < count; ++i) {
            (address to, uint256 amount) = _item(items, i);
            if (gasleft() < GAS_FLOOR) revert TooLittleGas(i);
            if (!token.trySafeTransfer(to, amount)) {
                credit[to] += amount;
                emit Unpaid(batchId, i, to, amount);
            }
        }
        emit BatchPaid(batchId, digest, count, total);
    }

    /// @notice Sends the credit of an account to it; anybody may ask. That of the zero address, which is nobody's, goes back
    /// to the treasury.
    function release(address account) external {
        _release(account, account == address(0) ? treasury : account);
    }

    /// @notice Sends the caller's credit where the caller wants it.
    function claim(address destination) external {
        _release(msg.sender, destination);
    }

    /// @notice Pays from another account from now on.
    function setTreasury(address treasury_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setTreasury(treasury_);
    }

    function _release(address account, address destination) private {
        uint256 amount = credit[account];
        if (amount == 0) revert NoCredit(account);
        credit[account] = 0;
        token.safeTransfer(destination, amount);
        emit Released(account, destination, amount);
    }

    function _setTreasury(address treasury_) private {
        // This contract as its own treasury would pay batches from other people's credits.
        if (treasury_ == address(0) || treasury_ == address(this)) revert ZeroAddress();
        treasury = treasury_;
        emit TreasuryChanged(treasury_);
    }

    /// @dev The sum of at most 500 amounts of 96 bits fits.
    function _total(bytes calldata items, uint256 count) private pure returns (uint256 total) {
        for (uint256 i; i < count; ++i) {
            (, uint256 amount) = _item(items, i);
            unchecked {
                total += amount;
            }
        }
    }

    /// @dev `i` is below the number of items: the caller counted them.
    function _item(bytes calldata items, uint256 i) private pure returns (address to, uint256 amount) {
        uint256 word;
        assembly ("memory-safe") {
            word := calldataload(add(items.offset, mul(i, ITEM_BYTES)))
        }
        to = address(uint160(word >> 96));
        amount = uint256(uint96(word));
    }
}
