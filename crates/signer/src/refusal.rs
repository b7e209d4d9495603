//! Every reason for which the signer says no, in the order in which it checks. It must never carry a secret.

macro_rules! refusals {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $code:literal, $message:literal;)*) => {
        florin_core::choice! {
            /// Why the signer refused, in the order of its checks: of several reasons the first one here is told.
            pub enum Refusal { $($(#[$meta])* $name = $number),* }
        }

        impl Refusal {
            /// The stable code of this refusal.
            pub fn code(self) -> &'static str {
                match self { $(Refusal::$name => $code),* }
            }
        }

        impl std::fmt::Display for Refusal {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(match self { $(Refusal::$name => $message),* })
            }
        }
    };
}

refusals! {
    /// The request is not a canonical message, or one of its numbers exceeds 63 bits.
    RequestInvalid = 1, "request_invalid", "the request can't be read";
    /// Another version of the protocol.
    ProtocolUnknown = 2, "protocol_unknown", "the signer speaks another version of the protocol";
    /// The asker knows another memory of this signer's.
    MemoryReplaced = 3, "memory_replaced", "the signer has another memory than the asker knows";
    /// The asker knows more decisions than the memory holds: it was restored from an old copy.
    MemoryBehind = 4, "memory_behind", "the signer's memory lacks decisions that the asker knows";
    /// The asker knows another decision in the place of one that the memory holds: an old copy was written on.
    MemoryConflict = 5, "memory_conflict", "the signer's memory has another decision than the asker knows";
    /// The request is for another platform.
    PlatformMismatch = 6, "platform_mismatch", "the signer serves another platform";
    /// The engine is behind what the signer has seen: restored from an old backup, no longer the leader, or unaware of the
    /// last row that the signer was shown.
    FenceBehind = 7, "fence_behind", "the signer has seen a later state of the journal";
    /// The last row seen has another hash there: two journals claim to be one.
    FenceConflict = 8, "fence_conflict", "the signer has seen another journal with this number";
    /// The ledger time is ahead of the signer's own clock: one of the two is wrong.
    ClockAhead = 9, "clock_ahead", "the ledger time is ahead of the signer's clock";
    /// The wallet is not in the signer's policy.
    WalletUnknown = 10, "wallet_unknown", "the signer's policy does not know the wallet";
    /// The plan was voided.
    PlanVoided = 11, "plan_voided", "the plan was voided";
    /// The plan has as many versions as it may.
    VersionsExhausted = 12, "versions_exhausted", "the plan has too many versions";
    /// The plan pays nobody.
    PaymentsMissing = 13, "payments_missing", "the plan pays nobody";
    /// The plan pays too many.
    PaymentsTooMany = 14, "payments_too_many", "the plan has too many payments";
    /// An intent is for another platform.
    IntentPlatformMismatch = 15, "intent_platform_mismatch", "an intent is for another platform";
    /// An intent is for another wallet.
    IntentWalletMismatch = 16, "intent_wallet_mismatch", "an intent is for another wallet";
    /// An intent is for another network.
    GenesisMismatch = 17, "genesis_mismatch", "an intent is for another network";
    /// An intent is for another asset.
    IntentAssetMismatch = 18, "intent_asset_mismatch", "an intent is for another asset";
    /// An intent's time is over.
    IntentExpired = 19, "intent_expired", "an intent has expired";
    /// An intent's script has no address: no operator could compare it.
    DestinationUnknown = 20, "destination_unknown", "an intent's script has no address";
    /// Two intents of the plan are for one withdrawal.
    WithdrawalRepeated = 21, "withdrawal_repeated", "two intents are for one withdrawal";
    /// The transaction can't be read, or is not one that this signer signs.
    TransactionInvalid = 22, "transaction_invalid", "the transaction can't be read or is not allowed";
    /// A signature type other than the one that covers everything.
    SighashForbidden = 23, "sighash_forbidden", "only signatures over the whole transaction are given";
    /// An input is not proven by the whole transaction that made it, or contradicts it.
    InputUnproven = 24, "input_unproven", "an input's amount is not proven by its previous transaction";
    /// An input is not the wallet's.
    InputForeign = 25, "input_foreign", "an input is not the wallet's";
    /// The transaction does not spend the plan's anchor.
    AnchorUnspent = 26, "anchor_unspent", "the transaction does not spend the plan's anchor";
    /// An output is neither an intent's nor the wallet's own change.
    OutputUnknown = 27, "output_unknown", "an output is neither an intent's nor change";
    /// The change's index is far beyond those used so far: a restore would not find it.
    ChangeFar = 28, "change_far", "the change's index is too far ahead";
    /// More than one output claims to be change.
    ChangeRepeated = 29, "change_repeated", "there is more than one change output";
    /// There is no output for an intent.
    PaymentAbsent = 30, "payment_absent", "no output pays an intent";
    /// The outputs exceed the inputs.
    AmountsExceeded = 31, "amounts_exceeded", "the outputs exceed the inputs";
    /// The fee rate exceeds the policy's cap.
    FeeRateAboveCap = 32, "fee_rate_above_cap", "the fee rate exceeds the policy's cap";
    /// The fee exceeds the policy's absolute cap.
    FeeAboveCap = 33, "fee_above_cap", "the fee exceeds the policy's cap";
    /// The fee exceeds the policy's share of what is paid.
    FeeAboveShare = 34, "fee_above_share", "the fee exceeds the policy's share of the amount";
    /// The fee exceeds what an intent allows.
    FeeAboveIntent = 35, "fee_above_intent", "the fee exceeds what an intent allows";
    /// An earlier version of the plan has another anchor.
    AnchorChanged = 36, "anchor_changed", "an earlier version of the plan has another anchor";
    /// An input was signed for under another plan.
    OutpointTaken = 37, "outpoint_taken", "an input belongs to another plan";
    /// A withdrawal was signed for under another plan.
    WithdrawalTaken = 38, "withdrawal_taken", "a withdrawal belongs to another plan";
    /// An earlier version of the plan pays other withdrawals, or pays them otherwise.
    PaymentsChanged = 39, "payments_changed", "an earlier version of the plan makes other payments";
    /// An approval's key is not in the policy.
    ApprovalKeyUnknown = 40, "approval_key_unknown", "too few approvals count: the key of one is not in the policy";
    /// Two approvals of one intent are by the same key.
    ApprovalRepeated = 41, "approval_repeated", "too few approvals count: two are by the same key";
    /// An approval is not a signature over this intent.
    ApprovalInvalid = 42, "approval_invalid", "too few approvals count: one is not a signature over this intent";
    /// An intent without enough approvals exceeds the automatic limit of one payment.
    LimitPayment = 43, "limit_payment", "the automatic limit of one payment is exceeded";
    /// The automatic limit of an hour is used up.
    LimitHour = 44, "limit_hour", "the automatic limit of an hour is exceeded";
    /// The automatic limit of a day is used up.
    LimitDay = 45, "limit_day", "the automatic limit of a day is exceeded";
    /// The automatic limit of a day to one destination is used up.
    LimitDestination = 46, "limit_destination", "the automatic limit of a day to one destination is exceeded";
}

/// Whether asking again for the same plan can end otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can: a window of the limits passes, a clock is set right, a policy is loaded that knows the wallet.
    Passing,
    /// It can't: only giving the plan up frees its coins and its withdrawals.
    Lasting,
}

/// What must be left out for the rest of a plan to have a chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The payment whose position is the refusal's place.
    Payment,
    /// The payments without approvals, as a whole.
    Automatic,
    /// The coin whose position among the inputs is the refusal's place.
    Coin,
    /// Something that the refusal does not name.
    Plan,
    /// Nothing: any other plan would be refused as well, or this one had its answer before.
    Nobody,
}

impl Refusal {
    /// Whether asking again for the same plan can end otherwise.
    pub fn standing(self) -> Standing {
        use Refusal::*;
        match self {
            RequestInvalid | ProtocolUnknown | MemoryReplaced | MemoryBehind | MemoryConflict | PlatformMismatch
            | FenceBehind | FenceConflict | ClockAhead | WalletUnknown | LimitHour | LimitDay | LimitDestination => {
                Standing::Passing
            }
            PlanVoided
            | VersionsExhausted
            | PaymentsMissing
            | PaymentsTooMany
            | IntentPlatformMismatch
            | IntentWalletMismatch
            | GenesisMismatch
            | IntentAssetMismatch
            | IntentExpired
            | DestinationUnknown
            | WithdrawalRepeated
            | TransactionInvalid
            | SighashForbidden
            | InputUnproven
            | InputForeign
            | AnchorUnspent
            | OutputUnknown
            | ChangeFar
            | ChangeRepeated
            | PaymentAbsent
            | AmountsExceeded
            | FeeRateAboveCap
            | FeeAboveCap
            | FeeAboveShare
            | FeeAboveIntent
            | AnchorChanged
            | OutpointTaken
            | WithdrawalTaken
            | PaymentsChanged
            | ApprovalKeyUnknown
            | ApprovalRepeated
            | ApprovalInvalid
            | LimitPayment => Standing::Lasting,
        }
    }

    /// What must be left out for the rest of the plan to have a chance.
    pub fn culprit(self) -> Culprit {
        use Refusal::*;
        match self {
            IntentPlatformMismatch
            | IntentWalletMismatch
            | GenesisMismatch
            | IntentAssetMismatch
            | IntentExpired
            | DestinationUnknown
            | WithdrawalRepeated
            | PaymentAbsent
            | FeeAboveIntent
            | WithdrawalTaken
            | ApprovalKeyUnknown
            | ApprovalRepeated
            | ApprovalInvalid
            | LimitPayment
            | LimitDestination => Culprit::Payment,
            LimitHour | LimitDay => Culprit::Automatic,
            InputUnproven | InputForeign | OutpointTaken => Culprit::Coin,
            PaymentsMissing | PaymentsTooMany | TransactionInvalid | SighashForbidden | AnchorUnspent
            | OutputUnknown | ChangeFar | ChangeRepeated | AmountsExceeded | FeeRateAboveCap | FeeAboveCap
            | FeeAboveShare => Culprit::Plan,
            RequestInvalid | ProtocolUnknown | MemoryReplaced | MemoryBehind | MemoryConflict | PlatformMismatch
            | FenceBehind | FenceConflict | ClockAhead | WalletUnknown | PlanVoided | VersionsExhausted
            | AnchorChanged | PaymentsChanged => Culprit::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A list for people to check: what passes, and whom each refusal blames.
    #[test]
    fn refusals_say_whether_they_pass_and_whom_they_blame() {
        let passing: Vec<&str> = Refusal::ALL
            .iter()
            .filter(|refusal| refusal.standing() == Standing::Passing)
            .map(|refusal| refusal.code())
            .collect();
        let expected = [
            "request_invalid",
            "protocol_unknown",
            "memory_replaced",
            "memory_behind",
            "memory_conflict",
            "platform_mismatch",
            "fence_behind",
            "fence_conflict",
            "clock_ahead",
            "wallet_unknown",
            "limit_hour",
            "limit_day",
            "limit_destination",
        ];
        assert_eq!(passing, expected);
        for refusal in Refusal::ALL {
            let code = refusal.code();
            let is_of_intent = ["intent_", "approval_", "withdrawal_", "destination_"];
            if is_of_intent.iter().any(|family| code.starts_with(family)) {
                assert_eq!((refusal.standing(), refusal.culprit()), (Standing::Lasting, Culprit::Payment), "{code}");
            }
            if code.starts_with("outpoint_") || code.starts_with("input_") {
                assert_eq!((refusal.standing(), refusal.culprit()), (Standing::Lasting, Culprit::Coin), "{code}");
            }
            // A refusal that passes and blames nobody would hold any other plan back too.
            if refusal.standing() == Standing::Passing && !code.starts_with("limit_") {
                assert_eq!(refusal.culprit(), Culprit::Nobody, "{code}");
            }
        }
    }

    #[test]
    fn codes_are_the_names_and_unique() {
        let codes: BTreeSet<&str> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            assert_eq!(refusal.code(), refusal.name());
        }
    }
}
