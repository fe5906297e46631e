// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IACTPKernel} from "./interfaces/IACTPKernel.sol";
import {IEscrowVault} from "./interfaces/IEscrowVault.sol";

/// @title ACTPKernel
/// @dev Money goes from the vault to its owner; only the archive's share passes through here, within
///      one call.
contract ACTPKernel is IACTPKernel, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @inheritdoc IACTPKernel
    uint256 public constant MAX_BPS = 10_000;
    /// @inheritdoc IACTPKernel
    uint256 public constant MIN_FEE = 50_000;
    /// @inheritdoc IACTPKernel
    uint256 public constant MIN_TRANSACTION_AMOUNT = 50_000;
    /// @inheritdoc IACTPKernel
    uint256 public constant MAX_TRANSACTION_AMOUNT = 1_000_000_000e6;
    /// @inheritdoc IACTPKernel
    uint256 public constant MAX_DEADLINE = 365 days;
    /// @inheritdoc IACTPKernel
    uint256 public constant MIN_DISPUTE_WINDOW = 1 hours;
    /// @inheritdoc IACTPKernel
    uint256 public constant MAX_DISPUTE_WINDOW = 30 days;
    /// @inheritdoc IACTPKernel
    uint256 public constant DEFAULT_DISPUTE_WINDOW = 2 days;
    /// @inheritdoc IACTPKernel
    uint256 public constant MIN_DISPUTE_BOND = 1e6;
    /// @inheritdoc IACTPKernel
    uint16 public constant MAX_MEDIATOR_FEE_BPS = 1_000;
    /// @inheritdoc IACTPKernel
    uint16 public constant ARCHIVE_ALLOCATION_BPS = 10;

    /// @inheritdoc IACTPKernel
    uint16 public constant platformFeeBps = 100;
    /// @inheritdoc IACTPKernel
    uint16 public constant requesterPenaltyBps = 500;
    /// @inheritdoc IACTPKernel
    uint16 public constant disputeBondBps = 500;

    /// @inheritdoc IACTPKernel
    address public immutable admin;
    /// @inheritdoc IACTPKernel
    address public immutable pauser;
    /// @inheritdoc IACTPKernel
    address public feeRecipient;
    /// @inheritdoc IACTPKernel
    address public archiveTreasury;
    /// @inheritdoc IACTPKernel
    bool public paused;
    /// @inheritdoc IACTPKernel
    mapping(address vault => bool) public approvedEscrowVaults;
    /// @inheritdoc IACTPKernel
    mapping(address requester => uint256) public requesterNonces;

    mapping(bytes32 transactionId => TransactionView) private _transactions;
    mapping(bytes32 escrowId => bool) private _usedEscrowIds;

    /// @dev How the admin splits what is left of a disputed escrow.
    struct Resolution {
        uint256 requesterAmount;
        uint256 providerAmount;
        address mediator;
        uint256 mediatorAmount;
        bool providerAtFault;
    }

    modifier onlyAdmin() {
        require(msg.sender == admin, "Not admin");
        _;
    }

    modifier onlyPauser() {
        require(msg.sender == pauser || msg.sender == admin, "Not pauser");
        _;
    }

    modifier whenNotPaused() {
        require(!paused, "Kernel paused");
        _;
    }

    constructor(address admin_, address pauser_, address feeRecipient_) {
        require(admin_ != address(0), "Zero admin");
        require(pauser_ != address(0), "Zero pauser");
        require(feeRecipient_ != address(0), "Zero fee recipient");
        admin = admin_;
        pauser = pauser_;
        feeRecipient = feeRecipient_;
    }

    /// @inheritdoc IACTPKernel
    function createTransaction(
        address provider,
        address requester,
        uint256 amount,
        uint256 deadline,
        uint256 disputeWindow,
        bytes32 serviceHash,
        uint256 agentId,
        uint256 requesterAgentId
    ) external whenNotPaused nonReentrant returns (bytes32 transactionId) {
        require(msg.sender == requester, "Requester mismatch");
        require(provider != address(0), "Zero provider");
        require(provider != requester, "Self-transaction not allowed");
        require(amount >= MIN_TRANSACTION_AMOUNT, "Amount below minimum");
        require(amount <= MAX_TRANSACTION_AMOUNT, "Amount exceeds maximum");
        require(deadline > block.timestamp, "Deadline in past");
        require(deadline <= block.timestamp + MAX_DEADLINE, "Deadline too far");
        _checkDisputeWindow(disputeWindow);

        transactionId = keccak256(
            abi.encodePacked(requester, provider, amount, serviceHash, requesterNonces[requester]++)
        );

        TransactionView storage txn = _transactions[transactionId];
        txn.transactionId = transactionId;
        txn.requester = requester;
        txn.provider = provider;
        txn.amount = amount;
        txn.createdAt = block.timestamp;
        txn.updatedAt = block.timestamp;
        txn.deadline = deadline;
        txn.serviceHash = serviceHash;
        txn.disputeWindow = disputeWindow;
        txn.platformFeeBpsLocked = platformFeeBps;
        txn.requesterPenaltyBpsLocked = requesterPenaltyBps;
        txn.disputeBondBpsLocked = disputeBondBps;
        txn.agentId = agentId;
        txn.requesterAgentId = requesterAgentId;

        emit TransactionCreated(
            transactionId,
            requester,
            provider,
            amount,
            serviceHash,
            deadline,
            block.timestamp,
            agentId
        );
    }

    /// @inheritdoc IACTPKernel
    function acceptQuote(bytes32 transactionId, uint256 newAmount)
        external
        whenNotPaused
        nonReentrant
    {
        TransactionView storage txn = _known(transactionId);
        require(txn.state == State.QUOTED, "Not quoted");
        require(msg.sender == txn.requester, "Only requester");
        require(block.timestamp <= txn.deadline, "Expired");
        require(newAmount >= MIN_TRANSACTION_AMOUNT, "Below minimum");
        require(newAmount <= MAX_TRANSACTION_AMOUNT, "Above maximum");

        uint256 oldAmount = txn.amount;
        txn.amount = newAmount;
        txn.platformFeeBpsLocked = platformFeeBps;
        txn.updatedAt = block.timestamp;
        emit QuoteAccepted(transactionId, oldAmount, newAmount, block.timestamp);
    }

    /// @inheritdoc IACTPKernel
    function linkEscrow(bytes32 transactionId, address escrowContract, bytes32 escrowId)
        external
        whenNotPaused
        nonReentrant
    {
        require(escrowContract != address(0), "Escrow addr");
        require(escrowId != bytes32(0), "Invalid escrow ID");
        require(approvedEscrowVaults[escrowContract], "Escrow not approved");
        require(!_usedEscrowIds[escrowId], "Escrow ID already used");
        TransactionView storage txn = _known(transactionId);
        require(
            txn.state == State.INITIATED || txn.state == State.QUOTED,
            "Invalid state for linking escrow"
        );
        require(msg.sender == txn.requester, "Only requester");
        require(block.timestamp <= txn.deadline, "Transaction expired");

        _usedEscrowIds[escrowId] = true;
        txn.escrowContract = escrowContract;
        txn.escrowId = escrowId;

        IEscrowVault(escrowContract).createEscrow(escrowId, txn.requester, txn.provider, txn.amount);
        emit EscrowLinked(transactionId, escrowContract, escrowId, txn.amount, block.timestamp);
        _moveTo(txn, State.COMMITTED);
    }

    /// @inheritdoc IACTPKernel
    function transitionState(bytes32 transactionId, State newState, bytes calldata proof)
        external
        whenNotPaused
        nonReentrant
    {
        TransactionView storage txn = _known(transactionId);
        State oldState = txn.state;
        require(newState != oldState, "No-op");
        require(_isReachable(oldState, newState), "Invalid transition");

        if (newState == State.QUOTED) _quote(txn, proof);
        else if (newState == State.IN_PROGRESS) _start(txn);
        else if (newState == State.DELIVERED) _deliver(txn, proof);
        else if (newState == State.DISPUTED) _dispute(txn);
        else if (oldState == State.DISPUTED) _resolve(txn, newState, proof);
        else if (newState == State.SETTLED) _settle(txn);
        else _cancel(txn, oldState);
    }

    /// @inheritdoc IACTPKernel
    function releaseMilestone(bytes32 transactionId, uint256 amount)
        external
        whenNotPaused
        nonReentrant
    {
        TransactionView storage txn = _known(transactionId);
        require(txn.state == State.IN_PROGRESS, "Not in progress");
        require(msg.sender == txn.requester, "Only requester");
        require(amount != 0, "Amount zero");
        IEscrowVault vault = _vaultOf(txn);
        require(amount <= vault.remaining(txn.escrowId), "Insufficient escrow");

        txn.updatedAt = block.timestamp;
        _payProvider(txn, vault, amount);
        emit EscrowMilestoneReleased(transactionId, amount, block.timestamp);
    }

    /// @inheritdoc IACTPKernel
    function getTransaction(bytes32 transactionId) external view returns (TransactionView memory) {
        return _known(transactionId);
    }

    /// @inheritdoc IACTPKernel
    function pause() external onlyPauser {
        require(!paused, "Already paused");
        paused = true;
        emit KernelPaused(msg.sender, block.timestamp);
    }

    /// @inheritdoc IACTPKernel
    function unpause() external onlyPauser {
        require(paused, "Not paused");
        paused = false;
        emit KernelUnpaused(msg.sender, block.timestamp);
    }

    /// @inheritdoc IACTPKernel
    function approveEscrowVault(address vault, bool approved) external onlyAdmin {
        require(vault != address(0), "Zero vault");
        approvedEscrowVaults[vault] = approved;
        emit EscrowVaultApproved(vault, approved);
    }

    /// @inheritdoc IACTPKernel
    function setArchiveTreasury(address archiveTreasury_) external onlyAdmin {
        emit ArchiveTreasuryUpdated(archiveTreasury, archiveTreasury_);
        archiveTreasury = archiveTreasury_;
    }

    /// @inheritdoc IACTPKernel
    function updateFeeRecipient(address newRecipient) external onlyAdmin {
        require(newRecipient != address(0), "Zero fee recipient");
        emit FeeRecipientUpdated(feeRecipient, newRecipient);
        feeRecipient = newRecipient;
    }

    function _quote(TransactionView storage txn, bytes calldata proof) private {
        require(msg.sender == txn.provider, "Only provider");
        require(block.timestamp <= txn.deadline, "Transaction expired");
        if (proof.length != 0) {
            require(proof.length == 32, "Quote hash must be 32 bytes");
            bytes32 quoteHash = abi.decode(proof, (bytes32));
            require(quoteHash != bytes32(0), "Invalid quote hash");
            txn.metadata = quoteHash;
        }
        _moveTo(txn, State.QUOTED);
    }

    function _start(TransactionView storage txn) private {
        require(msg.sender == txn.provider, "Only provider");
        require(block.timestamp <= txn.deadline, "Transaction expired");
        _moveTo(txn, State.IN_PROGRESS);
    }

    function _deliver(TransactionView storage txn, bytes calldata proof) private {
        require(msg.sender == txn.provider, "Only provider");
        require(block.timestamp <= txn.deadline, "Transaction expired");
        uint256 window;
        if (proof.length != 0) {
            require(proof.length == 32, "Invalid dispute window proof");
            window = abi.decode(proof, (uint256));
        }
        if (window == 0) window = DEFAULT_DISPUTE_WINDOW;
        _checkDisputeWindow(window);
        txn.disputeWindow = block.timestamp + window;
        _moveTo(txn, State.DELIVERED);
    }

    function _settle(TransactionView storage txn) private {
        if (msg.sender != txn.requester && block.timestamp <= txn.disputeWindow) {
            require(msg.sender != txn.provider, "Requester decision pending");
            revert("Not authorized to settle");
        }
        _moveTo(txn, State.SETTLED);

        IEscrowVault vault = _vaultOf(txn);
        uint256 left = vault.remaining(txn.escrowId);
        if (left != 0) _payProvider(txn, vault, left);
    }

    function _dispute(TransactionView storage txn) private {
        require(msg.sender == txn.requester || msg.sender == txn.provider, "Party only");
        require(block.timestamp <= txn.disputeWindow, "Dispute window closed");

        uint256 bond = _share(txn.amount, txn.disputeBondBpsLocked);
        if (bond < MIN_DISPUTE_BOND) bond = MIN_DISPUTE_BOND;
        txn.disputeInitiator = msg.sender;
        txn.disputeBond = bond;

        _vaultOf(txn).lockBond(txn.transactionId, msg.sender, bond);
        _moveTo(txn, State.DISPUTED);
        emit DisputeOpened(txn.transactionId, msg.sender, bond, block.timestamp);
    }

    function _resolve(TransactionView storage txn, State newState, bytes calldata proof) private {
        require(msg.sender == admin, "Resolver only");
        IEscrowVault vault = _vaultOf(txn);
        uint256 left = vault.remaining(txn.escrowId);

        Resolution memory resolution;
        if (proof.length != 0) {
            resolution = _decodeResolution(proof);
        } else {
            require(newState == State.CANCELLED, "Dispute resolution requires explicit proof");
            // Everything back: the bond then goes to whoever paid it.
            resolution.requesterAmount = left;
            resolution.providerAtFault = txn.disputeInitiator == txn.requester;
        }
        require(
            resolution.mediatorAmount <= _share(txn.amount, MAX_MEDIATOR_FEE_BPS),
            "Mediator fee too high"
        );
        require(
            resolution.mediatorAmount == 0 || resolution.mediator != address(0), "Zero mediator"
        );
        require(_total(resolution) == left, "Must distribute ALL funds");

        _moveTo(txn, newState);
        if (resolution.requesterAmount != 0) _refund(txn, vault, resolution.requesterAmount);
        if (resolution.providerAmount != 0) _payProvider(txn, vault, resolution.providerAmount);
        if (resolution.mediatorAmount != 0) _payMediator(txn, vault, resolution);
        _closeDispute(txn, vault, resolution.providerAtFault);
    }

    function _cancel(TransactionView storage txn, State oldState) private {
        bool isRequester = msg.sender == txn.requester;
        if (oldState == State.INITIATED || oldState == State.QUOTED) {
            require(isRequester, "Only requester can cancel");
            _moveTo(txn, State.CANCELLED);
            return;
        }

        require(isRequester || msg.sender == txn.provider, "Party only");
        if (isRequester) {
            require(oldState == State.COMMITTED, "Cannot cancel after work started");
            require(block.timestamp >= txn.deadline, "Deadline not reached");
        }
        _moveTo(txn, State.CANCELLED);

        IEscrowVault vault = _vaultOf(txn);
        uint256 left = vault.remaining(txn.escrowId);
        uint256 penalty = isRequester ? _share(txn.amount, txn.requesterPenaltyBpsLocked) : 0;
        if (left != penalty) _refund(txn, vault, left - penalty);
        if (isRequester) _payProvider(txn, vault, penalty);
    }

    function _refund(TransactionView storage txn, IEscrowVault vault, uint256 amount) private {
        vault.refundToRequester(txn.escrowId, amount);
        emit EscrowRefunded(txn.transactionId, txn.requester, amount, block.timestamp);
    }

    /// @dev Takes the fee out of `gross`; the rest, which may be nothing, is the provider's.
    function _payProvider(TransactionView storage txn, IEscrowVault vault, uint256 gross) private {
        uint256 fee = _share(gross, txn.platformFeeBpsLocked);
        if (fee < MIN_FEE) fee = MIN_FEE;
        require(fee <= gross, "Fee exceeds amount");

        uint256 net = gross - fee;
        if (net != 0) {
            vault.payoutToProvider(txn.escrowId, net);
            emit EscrowReleased(txn.transactionId, txn.provider, net, block.timestamp);
        }
        _payFee(txn, vault, fee);
    }

    function _payFee(TransactionView storage txn, IEscrowVault vault, uint256 fee) private {
        if (archiveTreasury != address(0)) {
            uint256 archiveShare = _share(fee, ARCHIVE_ALLOCATION_BPS);
            fee -= archiveShare;
            vault.payout(txn.escrowId, address(this), archiveShare);
            IERC20(vault.token()).safeTransfer(archiveTreasury, archiveShare);
        }
        vault.payout(txn.escrowId, feeRecipient, fee);
        emit PlatformFeeAccrued(txn.transactionId, feeRecipient, fee, block.timestamp);
    }

    function _payMediator(
        TransactionView storage txn,
        IEscrowVault vault,
        Resolution memory resolution
    ) private {
        vault.payout(txn.escrowId, resolution.mediator, resolution.mediatorAmount);
        emit EscrowMediatorPaid(
            txn.transactionId, resolution.mediator, resolution.mediatorAmount, block.timestamp
        );
    }

    function _closeDispute(TransactionView storage txn, IEscrowVault vault, bool providerAtFault)
        private
    {
        address initiator = txn.disputeInitiator;
        uint256 bond =
            vault.releaseBond(txn.transactionId, providerAtFault ? txn.requester : txn.provider);
        emit DisputeResolved(
            txn.transactionId,
            keccak256(abi.encode(txn.transactionId, initiator)),
            initiator,
            providerAtFault,
            bond,
            block.timestamp
        );
    }

    function _moveTo(TransactionView storage txn, State newState) private {
        State oldState = txn.state;
        txn.state = newState;
        txn.updatedAt = block.timestamp;
        emit StateTransitioned(txn.transactionId, oldState, newState, msg.sender, block.timestamp);
    }

    function _known(bytes32 transactionId) private view returns (TransactionView storage txn) {
        txn = _transactions[transactionId];
        require(txn.requester != address(0), "Tx missing");
    }

    function _vaultOf(TransactionView storage txn) private view returns (IEscrowVault) {
        require(approvedEscrowVaults[txn.escrowContract], "Vault not approved");
        return IEscrowVault(txn.escrowContract);
    }

    /// @dev COMMITTED is missing on purpose: only `linkEscrow` leads there.
    function _isReachable(State from, State to) private pure returns (bool) {
        if (from == State.INITIATED) return to == State.QUOTED || to == State.CANCELLED;
        if (from == State.QUOTED) return to == State.CANCELLED;
        if (from == State.COMMITTED) return to == State.IN_PROGRESS || to == State.CANCELLED;
        if (from == State.IN_PROGRESS) return to == State.DELIVERED || to == State.CANCELLED;
        if (from == State.DELIVERED) return to == State.SETTLED || to == State.DISPUTED;
        if (from == State.DISPUTED) return to == State.SETTLED || to == State.CANCELLED;
        return false;
    }

    function _decodeResolution(bytes calldata proof)
        private
        pure
        returns (Resolution memory resolution)
    {
        require(proof.length % 32 == 0, "Invalid resolution proof");
        uint256 words = proof.length / 32;
        require(words >= 2 && words <= 5, "Invalid resolution proof");

        (resolution.requesterAmount, resolution.providerAmount) =
            abi.decode(proof, (uint256, uint256));
        if (words >= 4) {
            (,, resolution.mediator, resolution.mediatorAmount) =
                abi.decode(proof, (uint256, uint256, address, uint256));
        }
        // Three and five words end with the flag; without it the provider is at fault.
        resolution.providerAtFault = words % 2 == 0 || abi.decode(proof[proof.length - 32:], (bool));
    }

    /// @dev Saturates, so that a huge amount is a wrong total and not an overflow.
    function _total(Resolution memory resolution) private pure returns (uint256 total) {
        if (
            resolution.requesterAmount > MAX_TRANSACTION_AMOUNT
                || resolution.providerAmount > MAX_TRANSACTION_AMOUNT
        ) return type(uint256).max;
        return resolution.requesterAmount + resolution.providerAmount + resolution.mediatorAmount;
    }

    function _checkDisputeWindow(uint256 window) private pure {
        require(window >= MIN_DISPUTE_WINDOW, "Dispute window too short");
        require(window <= MAX_DISPUTE_WINDOW, "Dispute window too long");
    }

    function _share(uint256 amount, uint16 bps) private pure returns (uint256) {
        return amount * bps / MAX_BPS;
    }
}
