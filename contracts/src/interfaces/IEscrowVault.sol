// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title Holds the money of escrows; only its kernel moves it
/// @notice Amounts are units of `token` (USDC: six decimals). Every escrow has a requester who paid
///         and a provider; the kernel says who gets what.
interface IEscrowVault {
    /// @notice The requester's money has arrived; `Transfer` comes directly before.
    event EscrowCreated(
        bytes32 indexed escrowId,
        address indexed requester,
        address indexed provider,
        uint256 amount
    );

    /// @notice A part of an escrow has left the vault; `Transfer` comes directly before.
    event EscrowPayout(bytes32 indexed escrowId, address indexed recipient, uint256 amount);

    /// @notice Nothing is left of an escrow; comes before its last `Transfer`.
    event EscrowCompleted(bytes32 indexed escrowId, uint256 totalReleased);

    /// @notice The only token that is held here.
    function token() external view returns (address);

    /// @notice The only caller that may move money.
    function kernel() external view returns (address);

    /// @notice The stored escrow; all zero for an unknown id, inactive once nothing is left.
    function escrows(bytes32 escrowId)
        external
        view
        returns (
            address requester,
            address provider,
            uint256 amount,
            uint256 releasedAmount,
            bool active
        );

    /// @notice What is left of an escrow; zero for an unknown id. Bonds are not part of it.
    function remaining(bytes32 escrowId) external view returns (uint256);

    /// @notice The bond that is held for a disputed transaction, zero once it is paid back.
    function bondBalance(bytes32 transactionId) external view returns (uint256);

    /// @notice Whether an active escrow has exactly these parties and this amount.
    /// @return isActive True if it is active and all three are as given.
    /// @return escrowAmount What was paid in, whatever has left since; zero for an unknown id.
    function verifyEscrow(bytes32 escrowId, address requester, address provider, uint256 amount)
        external
        view
        returns (bool isActive, uint256 escrowAmount);

    /// @notice Pulls `amount` from the requester's allowance into a new escrow. Kernel only.
    function createEscrow(bytes32 escrowId, address requester, address provider, uint256 amount)
        external;

    /// @notice Pays a part of an escrow to anyone. Kernel only.
    /// @return What was paid: `amount`.
    function payout(bytes32 escrowId, address recipient, uint256 amount) external returns (uint256);

    /// @notice Pays a part of an escrow to its provider. Kernel only.
    /// @return What was paid: `amount`.
    function payoutToProvider(bytes32 escrowId, uint256 amount) external returns (uint256);

    /// @notice Pays a part of an escrow back to its requester. Kernel only.
    /// @return What was paid: `amount`.
    function refundToRequester(bytes32 escrowId, uint256 amount) external returns (uint256);

    /// @notice Pulls a dispute's bond from the disputer's allowance. Kernel only; no event but
    ///         `Transfer`.
    function lockBond(bytes32 transactionId, address disputer, uint256 amount) external;

    /// @notice Pays the whole bond out. Kernel only; no event but `Transfer`.
    /// @return amount What was paid; zero if no bond is held.
    function releaseBond(bytes32 transactionId, address recipient) external returns (uint256 amount);
}
