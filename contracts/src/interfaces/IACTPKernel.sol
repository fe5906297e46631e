// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title The ACTP kernel: who may move a transaction to which state, and who is paid then
/// @notice Behaves like the deployed V4 kernel. Reasons are strings because its are. All amounts are
///         USDC units (six decimals), all times unix seconds, all rates 1/10,000 ("bps").
interface IACTPKernel {
    enum State {
        INITIATED,
        QUOTED,
        COMMITTED,
        IN_PROGRESS,
        DELIVERED,
        SETTLED,
        DISPUTED,
        CANCELLED
    }

    /// @notice Everything that is stored of a transaction.
    /// @dev disputeWindow is a span until DELIVERED, from then on the last second of the window.
    ///      metadata is the quote's hash. escrowContract and escrowId are zero until COMMITTED,
    ///      disputeInitiator and disputeBond until DISPUTED. attestationUID stays zero.
    struct TransactionView {
        bytes32 transactionId;
        address requester;
        address provider;
        State state;
        uint256 amount;
        uint256 createdAt;
        uint256 updatedAt;
        uint256 deadline;
        bytes32 serviceHash;
        address escrowContract;
        bytes32 escrowId;
        bytes32 attestationUID;
        uint256 disputeWindow;
        bytes32 metadata;
        uint16 platformFeeBpsLocked;
        uint16 requesterPenaltyBpsLocked;
        uint16 disputeBondBpsLocked;
        uint256 agentId;
        uint256 requesterAgentId;
        address disputeInitiator;
        uint256 disputeBond;
    }

    event TransactionCreated(
        bytes32 indexed transactionId,
        address indexed requester,
        address indexed provider,
        uint256 amount,
        bytes32 serviceHash,
        uint256 deadline,
        uint256 timestamp,
        uint256 agentId
    );
    event StateTransitioned(
        bytes32 indexed transactionId,
        State indexed oldState,
        State indexed newState,
        address triggeredBy,
        uint256 timestamp
    );
    event QuoteAccepted(
        bytes32 indexed transactionId, uint256 oldAmount, uint256 newAmount, uint256 timestamp
    );
    event EscrowLinked(
        bytes32 indexed transactionId,
        address escrowContract,
        bytes32 escrowId,
        uint256 amount,
        uint256 timestamp
    );
    /// @notice The provider was paid `amount`, which is net of the fee.
    event EscrowReleased(
        bytes32 indexed transactionId, address recipient, uint256 amount, uint256 timestamp
    );
    event EscrowRefunded(
        bytes32 indexed transactionId, address recipient, uint256 amount, uint256 timestamp
    );
    /// @notice `amount` is gross: the provider's part and the fee.
    event EscrowMilestoneReleased(bytes32 indexed transactionId, uint256 amount, uint256 timestamp);
    event EscrowMediatorPaid(
        bytes32 indexed transactionId, address indexed mediator, uint256 amount, uint256 timestamp
    );
    /// @notice The fee recipient was paid `amount`: the fee less the archive's share.
    event PlatformFeeAccrued(
        bytes32 indexed transactionId, address indexed recipient, uint256 amount, uint256 timestamp
    );
    event DisputeOpened(
        bytes32 indexed transactionId,
        address indexed initiator,
        uint256 bondAmount,
        uint256 timestamp
    );
    event DisputeResolved(
        bytes32 indexed transactionId,
        bytes32 indexed disputeId,
        address indexed initiator,
        bool providerAtFault,
        uint256 bondAmount,
        uint256 timestamp
    );
    event KernelPaused(address indexed by, uint256 timestamp);
    event KernelUnpaused(address indexed by, uint256 timestamp);
    event EscrowVaultApproved(address indexed vault, bool approved);
    event ArchiveTreasuryUpdated(address indexed oldTreasury, address indexed newTreasury);
    event FeeRecipientUpdated(address indexed oldRecipient, address indexed newRecipient);

    /// @notice Opens a transaction in state INITIATED; no money moves.
    /// @dev The id is keccak256(requester, provider, amount, serviceHash, requesterNonces[requester])
    ///      over the packed values, with the nonce from before the call.
    /// @param requester Must be the caller.
    /// @param amount From MIN_TRANSACTION_AMOUNT to MAX_TRANSACTION_AMOUNT, both included.
    /// @param deadline After now, at most MAX_DEADLINE from now.
    /// @param disputeWindow From MIN_DISPUTE_WINDOW to MAX_DISPUTE_WINDOW seconds, both included;
    ///        the provider's delivery overwrites it.
    /// @param serviceHash The provider's routing key, keccak256 of the service's name, or zero.
    function createTransaction(
        address provider,
        address requester,
        uint256 amount,
        uint256 deadline,
        uint256 disputeWindow,
        bytes32 serviceHash,
        uint256 agentId,
        uint256 requesterAgentId
    ) external returns (bytes32 transactionId);

    /// @notice The requester agrees to the quoted amount; the state stays QUOTED. Up to and including
    ///         the deadline. Today's fee rate becomes the transaction's.
    function acceptQuote(bytes32 transactionId, uint256 newAmount) external;

    /// @notice The vault pulls the amount from the requester, and the transaction is COMMITTED. From
    ///         INITIATED or QUOTED, up to and including the deadline.
    /// @param escrowContract An approved vault.
    /// @param escrowId Not zero and never used before, in any vault, by anyone.
    function linkEscrow(bytes32 transactionId, address escrowContract, bytes32 escrowId) external;

    /// @notice Moves a transaction to another state and pays what this entails.
    /// @dev Who, when and with which proof:
    ///      QUOTED: provider, up to the deadline; empty or the quote's hash (32 bytes, not zero).
    ///      IN_PROGRESS: provider, from COMMITTED, up to the deadline.
    ///      DELIVERED: provider, from IN_PROGRESS, up to the deadline; empty or a word of zero for
    ///      DEFAULT_DISPUTE_WINDOW, else a word with the window in seconds.
    ///      SETTLED, from DELIVERED: the requester at once, anyone after the window.
    ///      DISPUTED: a party, from DELIVERED, up to the end of the window; pulls a bond from it.
    ///      SETTLED, from DISPUTED: the admin; (requester's amount, provider's amount) and then, each
    ///      optional, (mediator, its amount) and (provider is at fault).
    ///      CANCELLED: the requester at INITIATED and QUOTED, and at COMMITTED from the deadline on
    ///      with a penalty; the provider at COMMITTED and IN_PROGRESS; the admin at DISPUTED.
    function transitionState(bytes32 transactionId, State newState, bytes calldata proof) external;

    /// @notice The requester pays the provider a part before delivery; the fee, with its minimum, is
    ///         taken out of each part.
    /// @param amount Gross, at most what is left of the escrow.
    function releaseMilestone(bytes32 transactionId, uint256 amount) external;

    /// @notice The stored transaction; reverts `Tx missing` for an unknown id.
    function getTransaction(bytes32 transactionId) external view returns (TransactionView memory);

    /// @notice How many transactions the requester has created.
    function requesterNonces(address requester) external view returns (uint256);

    function admin() external view returns (address);
    function pauser() external view returns (address);
    function feeRecipient() external view returns (address);
    /// @notice Gets ARCHIVE_ALLOCATION_BPS of every fee; nobody does while it is zero.
    function archiveTreasury() external view returns (address);
    function approvedEscrowVaults(address vault) external view returns (bool);
    function paused() external view returns (bool);

    /// @notice Of what the provider would get; a transaction keeps the rate of its creation.
    function platformFeeBps() external view returns (uint16);
    /// @notice Of the amount; a transaction keeps the rate of its creation.
    function requesterPenaltyBps() external view returns (uint16);
    /// @notice Of the amount; a transaction keeps the rate of its creation.
    function disputeBondBps() external view returns (uint16);

    function MAX_BPS() external view returns (uint256);
    function MIN_FEE() external view returns (uint256);
    function MIN_TRANSACTION_AMOUNT() external view returns (uint256);
    function MAX_TRANSACTION_AMOUNT() external view returns (uint256);
    function MAX_DEADLINE() external view returns (uint256);
    function MIN_DISPUTE_WINDOW() external view returns (uint256);
    function MAX_DISPUTE_WINDOW() external view returns (uint256);
    function DEFAULT_DISPUTE_WINDOW() external view returns (uint256);
    function MIN_DISPUTE_BOND() external view returns (uint256);
    /// @notice Of the transaction's amount.
    function MAX_MEDIATOR_FEE_BPS() external view returns (uint16);
    /// @notice Of the fee.
    function ARCHIVE_ALLOCATION_BPS() external view returns (uint16);

    /// @notice Stops every change of a transaction, refunds too. Pauser or admin.
    function pause() external;

    /// @notice Ends the pause. Pauser or admin.
    function unpause() external;

    /// @notice Puts a vault on or off the list. Off it, its escrows are frozen, refunds too. Admin.
    function approveEscrowVault(address vault, bool approved) external;

    /// @notice Names who gets the archive's share; zero for nobody. Admin.
    function setArchiveTreasury(address archiveTreasury) external;

    /// @notice Names who gets the fees. Admin.
    function updateFeeRecipient(address newRecipient) external;
}
