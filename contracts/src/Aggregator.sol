// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IAggregator} from "./interfaces/IAggregator.sol";

/// @title Aggregator
contract Aggregator is IAggregator {
    /// @inheritdoc IAggregator
    function aggregate3(Call3[] calldata calls) external payable returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; ++i) {
            (bool success, bytes memory data) = calls[i].target.call(calls[i].callData);
            require(success || calls[i].allowFailure, CallFailed(i));
            results[i] = Result(success, data);
        }
    }

    /// @inheritdoc IAggregator
    function getEthBalance(address account) external view returns (uint256 balance) {
        return account.balance;
    }
}
