//! The binary: demo, serve, signer, approve, wallet, ledger; HTTP, configuration, node clients.
