// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IEscrowVault} from "./interfaces/IEscrowVault.sol";

/// @title EscrowVault
contract EscrowVault is IEscrowVault, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Escrow {
        address requester;
        address provider;
        uint256 amount;
        uint256 releasedAmount;
        bool active;
    }

    /// @inheritdoc IEscrowVault
    address public immutable token;
    /// @inheritdoc IEscrowVault
    address public immutable kernel;
    /// @inheritdoc IEscrowVault
    mapping(bytes32 escrowId => Escrow) public escrows;
    /// @inheritdoc IEscrowVault
    mapping(bytes32 transactionId => uint256) public bondBalance;

    modifier onlyKernel() {
        require(msg.sender == kernel, "Only kernel");
        _;
    }

    constructor(address token_, address kernel_) {
        require(token_ != address(0), "Zero token");
        require(kernel_ != address(0), "Zero kernel");
        token = token_;
        kernel = kernel_;
    }

    /// @inheritdoc IEscrowVault
    function createEscrow(bytes32 escrowId, address requester, address provider, uint256 amount)
        external
        onlyKernel
        nonReentrant
    {
        require(amount != 0, "Amount zero");
        require(escrows[escrowId].amount == 0, "Escrow exists");
        escrows[escrowId] = Escrow({
            requester: requester,
            provider: provider,
            amount: amount,
            releasedAmount: 0,
            active: true
        });

        IERC20(token).safeTransferFrom(requester, address(this), amount);
        emit EscrowCreated(escrowId, requester, provider, amount);
    }

    /// @inheritdoc IEscrowVault
    function payout(bytes32 escrowId, address recipient, uint256 amount)
        external
        onlyKernel
        nonReentrant
        returns (uint256)
    {
        return _pay(escrowId, recipient, amount);
    }

    /// @inheritdoc IEscrowVault
    function payoutToProvider(bytes32 escrowId, uint256 amount)
        external
        onlyKernel
        nonReentrant
        returns (uint256)
    {
        return _pay(escrowId, escrows[escrowId].provider, amount);
    }

    /// @inheritdoc IEscrowVault
    function refundToRequester(bytes32 escrowId, uint256 amount)
        external
        onlyKernel
        nonReentrant
        returns (uint256)
    {
        return _pay(escrowId, escrows[escrowId].requester, amount);
    }

    /// @inheritdoc IEscrowVault
    function lockBond(bytes32 transactionId, address disputer, uint256 amount)
        external
        onlyKernel
        nonReentrant
    {
        require(amount != 0, "Amount zero");
        require(bondBalance[transactionId] == 0, "Bond exists");
        bondBalance[transactionId] = amount;
        IERC20(token).safeTransferFrom(disputer, address(this), amount);
    }

    /// @inheritdoc IEscrowVault
    function releaseBond(bytes32 transactionId, address recipient)
        external
        onlyKernel
        nonReentrant
        returns (uint256 amount)
    {
        amount = bondBalance[transactionId];
        bondBalance[transactionId] = 0;
        if (amount != 0) IERC20(token).safeTransfer(recipient, amount);
    }

    /// @inheritdoc IEscrowVault
    function remaining(bytes32 escrowId) public view returns (uint256) {
        Escrow storage escrow = escrows[escrowId];
        return escrow.amount - escrow.releasedAmount;
    }

    /// @inheritdoc IEscrowVault
    function verifyEscrow(bytes32 escrowId, address requester, address provider, uint256 amount)
        external
        view
        returns (bool isActive, uint256 escrowAmount)
    {
        Escrow storage escrow = escrows[escrowId];
        escrowAmount = escrow.amount;
        isActive = escrow.active && escrow.requester == requester && escrow.provider == provider
            && escrowAmount == amount;
    }

    function _pay(bytes32 escrowId, address recipient, uint256 amount) private returns (uint256) {
        Escrow storage escrow = escrows[escrowId];
        require(amount != 0, "Amount zero");
        require(amount <= remaining(escrowId), "Insufficient escrow");

        escrow.releasedAmount += amount;
        if (escrow.releasedAmount == escrow.amount) {
            escrow.active = false;
            emit EscrowCompleted(escrowId, escrow.amount);
        }

        IERC20(token).safeTransfer(recipient, amount);
        emit EscrowPayout(escrowId, recipient, amount);
        return amount;
    }
}
