// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title A Safe's owners, and what it says it has signed
/// @notice The part of the interface of Safe 1.3.0 and later that the coordinator uses. The last
/// function is ERC-1271's; a Safe answers it through its CompatibilityFallbackHandler.
interface ISafe {
    /// @notice The release of the code that it runs, such as 1.4.1.
    // solhint-disable-next-line func-name-mixedcase
    function VERSION() external view returns (string memory version);

    /// @notice Its owners, the last one added first.
    function getOwners() external view returns (address[] memory owners);

    /// @notice The number of owners that have to sign.
    function getThreshold() external view returns (uint256 threshold);

    /// @notice Whether the account has signed; a Safe reverts where it has not.
    /// @return magicValue 0x1626ba7e if it has.
    function isValidSignature(bytes32 hash, bytes calldata signature)
        external
        view
        returns (bytes4 magicValue);
}
