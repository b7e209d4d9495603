//! Keys and signatures: key store, policy, intents, approvals, durable memory. Links nothing that serves or follows.
