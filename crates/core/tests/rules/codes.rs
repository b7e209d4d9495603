//! Codes and names that others rely on: stable, in one form, and unambiguous.

use florin_core::decide::*;
use std::collections::BTreeMap;

#[test]
fn codes_are_snake_case_and_unique_in_their_list() {
    macro_rules! lists {
        ($($list:ident),*) => {
            [$((stringify!($list), $list::ALL.iter().map(|refusal| (refusal.code(), refusal.to_string())).collect::<Vec<_>>())),*]
        };
    }
    let lists = lists![
        OriginRefusal,
        AdminRefusal,
        AccountRefusal,
        TransferRefusal,
        BankReceiptRefusal,
        CorrectionRefusal,
        AddressRefusal,
        BlockRefusal,
        PriceRefusal,
        QuoteRefusal,
        AcceptQuoteRefusal,
        WithdrawalRefusal,
        ApprovalRefusal,
        CancelRefusal,
        PlanRefusal
    ];
    for (list, refusals) in lists {
        let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
        for (code, text) in refusals {
            *codes.entry(code).or_default() += 1;
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(code.bytes().all(is_plain) && !code.starts_with('_'), "{list}: {code}");
            assert!(!text.is_empty() && !text.ends_with('.'), "{list}: {code}: {text}");
        }
        assert!(codes.values().all(|&count| count == 1), "{list}: {codes:?}");
    }
}

#[test]
fn refusal_shows_the_code_and_text_of_its_list() {
    let refusal = Refusal::from(TransferRefusal::InsufficientFunds);
    assert_eq!(refusal.code(), "insufficient_funds");
    assert_eq!(refusal.to_string(), "the account debited holds less than that");
}

#[test]
fn choices_have_names_in_snake_case() {
    use florin_core::custody::WithdrawalStatus;
    assert_eq!(WithdrawalStatus::AwaitingApproval.name(), "awaiting_approval");
    assert_eq!(WithdrawalStatus::ALL.len(), 9);
}
