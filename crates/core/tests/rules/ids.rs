//! Ids: their text, their time, their order.

use crate::world::id_at;
use florin_core::id::{CommandId, CustomerId, LedgerTime, TxId};
use proptest::prelude::*;

proptest! {
    #[test]
    fn text_of_an_id_reads_back(bytes: [u8; 16]) {
        let id = CustomerId(bytes);
        prop_assert_eq!(CustomerId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn any_other_text_is_no_id(text in "[0-9a-fA-F-]{0,40}") {
        if let Some(id) = CustomerId::parse(&text) {
            prop_assert_eq!(id.to_string(), text, "one id has one text");
        }
    }

    #[test]
    fn ids_of_later_times_are_greater(earlier in 0u64..1 << 48, later in 0u64..1 << 48, number: u64) {
        prop_assume!(earlier < later);
        prop_assert!(id_at(earlier, number) < id_at(later, 0));
        prop_assert_eq!(id_at(later, number).unix_ms(), later);
    }
}

#[test]
fn only_the_canonical_text_of_an_id_is_read() {
    // The example of RFC 9562, appendix A.6.
    let text = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    let id = CommandId::parse(text).expect("it is an id");
    assert!(id.is_v7());
    assert_eq!(id.unix_ms(), 0x017f_22e2_79b0);
    assert_eq!(id.to_string(), text);
    for wrong in [
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "017f22e279b07cc398c4dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        "017f22e27-9b0-7cc3-98c4-dc0c0c07398f",
        "{17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "",
    ] {
        assert_eq!(CommandId::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn only_version_7_with_its_variant_counts_as_such() {
    let id = id_at(5, 6);
    assert!(id.is_v7());
    for version in (0..16).filter(|&version| version != 7) {
        let mut other = id;
        other.0[6] = version << 4;
        assert!(!other.is_v7(), "version {version}");
    }
    for variant in [0x00, 0x40, 0xc0] {
        let mut other = id;
        other.0[8] = variant;
        assert!(!other.is_v7(), "variant {variant:x}");
    }
}

#[test]
fn transaction_id_is_shown_backwards_as_chains_show_it() {
    let mut bytes = [0; 32];
    (bytes[0], bytes[31]) = (0xab, 0x01);
    let text = TxId(bytes).to_string();
    assert!(text.starts_with("01") && text.ends_with("ab"));
}

#[test]
fn time_neither_wraps_nor_turns_negative() {
    assert_eq!(LedgerTime(u64::MAX).plus_ms(1), LedgerTime(u64::MAX));
    assert_eq!(LedgerTime(5).since_ms(LedgerTime(9)), 0);
    assert_eq!(LedgerTime(9).since_ms(LedgerTime(5)), 4);
}
