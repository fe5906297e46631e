// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title Many reads of one block in one call
/// @notice The part of Multicall3's interface that the coordinator uses. On Base it is deployed at
/// 0xcA11bde05977b3631167028862bE2a173976CA11; a local chain gets this one there.
interface IAggregator {
    struct Call3 {
        address target;
        bool allowFailure;
        bytes callData;
    }

    struct Result {
        bool success;
        bytes returnData;
    }

    /// @notice A call failed that was not allowed to.
    /// @param index Its place among the calls.
    error CallFailed(uint256 index);

    /// @notice Make the calls in their order.
    /// @return results Of each call whether it succeeded, and its result or its revert data.
    function aggregate3(Call3[] calldata calls) external payable returns (Result[] memory results);

    /// @notice The account's ETH, in wei.
    function getEthBalance(address account) external view returns (uint256 balance);
}
