// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title What this project calls on Circle's USDC (FiatToken, six decimals)
/// @notice The open-mint test token of Base Sepolia answers the same `mint`, without a minter's
///         allowance.
interface IFiatToken {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

    function name() external view returns (string memory);
    function symbol() external view returns (string memory);
    function decimals() external view returns (uint8);
    /// @notice The EIP-712 domain's version, "2".
    function version() external pure returns (string memory);
    /// @notice The hash of that domain.
    function DOMAIN_SEPARATOR() external view returns (bytes32);

    function balanceOf(address account) external view returns (uint256);
    function allowance(address owner, address spender) external view returns (uint256);
    /// @notice Replaces the allowance; it does not add to it.
    function approve(address spender, uint256 value) external returns (bool);
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);

    /// @notice Whether the nonce of EIP-3009 authorizations was used or canceled.
    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    /// @notice Anybody may submit it, in a block whose time is after `validAfter` and before
    ///         `validBefore`; `AuthorizationUsed` comes before its `Transfer`.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes memory signature
    ) external;

    /// @notice Makes new units; only a configured minter, within its allowance.
    function mint(address to, uint256 amount) external returns (bool);
    function configureMinter(address minter, uint256 minterAllowedAmount) external returns (bool);
    function masterMinter() external view returns (address);

    /// @notice From now on the account can neither send nor receive.
    function blacklist(address account) external;
    function unBlacklist(address account) external;
    function isBlacklisted(address account) external view returns (bool);
    function blacklister() external view returns (address);

    /// @notice Stops every transfer, approval and mint.
    function pause() external;
    function unpause() external;
    function paused() external view returns (bool);
    function pauser() external view returns (address);
    function owner() external view returns (address);
}
