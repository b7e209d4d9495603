//! What the codes of faults and alarms mean, and the way out of each: one text for the documents, the command line and the interface. Refusals say what they mean
//! themselves; nothing of theirs is here.

/// One line for each code, `code | meaning | way out`, below its group's `# title: way out`, which holds where a line names none.
const TEXT: &str = include_str!("faults.txt");

/// A code of a fault or an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What it is a fault of.
    pub group: &'static str,
    /// What can be done about any fault of the group.
    pub group_way_out: &'static str,
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What can be done about this one; empty where the group's holds.
    pub own_way_out: &'static str,
}

/// All of them, in the order of the text.
pub fn all() -> impl Iterator<Item = Fault> {
    let (mut group, mut group_way_out) = ("", "");
    TEXT.lines().filter_map(move |line| {
        if let Some(head) = line.strip_prefix("# ") {
            (group, group_way_out) = head.split_once(": ").unwrap_or((head, ""));
            return None;
        }
        let (code, rest) = line.split_once(" | ")?;
        let (meaning, own_way_out) = rest.split_once(" | ").unwrap_or((rest, ""));
        Some(Fault { group, group_way_out, code, meaning, own_way_out })
    })
}

/// What can be done about a fault.
pub fn way_out(code: &str) -> Option<&'static str> {
    let fault = all().find(|fault| fault.code == code)?;
    Some(if fault.own_way_out.is_empty() { fault.group_way_out } else { fault.own_way_out })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_line_is_read_and_says_something() {
        let lines = TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).count();
        let faults: Vec<Fault> = all().collect();
        assert_eq!(faults.len(), lines);
        for fault in &faults {
            let texts = [fault.group, fault.group_way_out, fault.code, fault.meaning];
            assert!(texts.iter().all(|text| !text.is_empty() && text.trim() == *text), "{fault:?}");
            assert!(!fault.own_way_out.contains('|') && fault.own_way_out.trim() == fault.own_way_out, "{fault:?}");
        }
        assert_eq!(faults.iter().map(|fault| fault.code).collect::<BTreeSet<_>>().len(), lines, "each code once");
    }

    #[test]
    fn a_fault_without_a_way_out_of_its_own_has_its_groups() {
        assert_eq!(way_out("store_full"), Some("make room"));
        assert!(way_out("journal_broken_link").is_some_and(|text| text.contains("florin ledger verify")));
        assert_eq!(way_out("nothing_known"), None);
    }
}
