//! What an operator can do where edits wait for standbys that are not there.

/// What ends that edits are refused: of the standbys that count `silent` take none, `connected` do, and `needed` have
/// to; `min_sync` is what the registry asks for. Every command that it names is one that is accepted then.
pub fn ways_out(needed: usize, connected: usize, silent: &[String], min_sync: u32) -> String {
    let all = connected.saturating_add(silent.len());
    match silent {
        // Without it so few are needed as there are.
        [one] if needed == all => format!(
            "bring it back; or do without, and without what only it holds: echelon manager remove {one} --accept-loss, \
             or echelon manager set min_sync=0 --accept-loss"
        ),
        _ => {
            let each = silent.iter().map(|host| format!("echelon manager remove {host}"));
            let each = each.collect::<Vec<_>>().join("; ");
            let back = needed.saturating_sub(connected);
            format!(
                "bring {back} of them back; or do without, and without what only they hold: echelon manager set min_sync=0 \
                 --accept-loss; then take out those that are gone for good, and ask for as many as before: {each}; \
                 echelon manager set min_sync={min_sync}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn taking_one_out_is_named_only_where_that_is_enough() {
        let alone = ways_out(1, 0, &names(&["spare"]), 1);
        assert!(alone.contains("manager remove spare --accept-loss, or "), "{alone}");
        let both = ways_out(2, 1, &names(&["spare"]), 2);
        assert!(both.contains("manager remove spare --accept-loss, or "), "{both}");

        let two = ways_out(1, 0, &names(&["spare", "third"]), 1);
        assert!(!two.contains("remove spare --accept-loss"), "without one the other is waited for: {two}");
        assert!(two.contains("manager set min_sync=0 --accept-loss; "), "{two}");
        assert!(
            two.ends_with(
                "manager remove spare; echelon manager remove third; echelon manager set min_sync=1"
            )
        );
        let most = ways_out(2, 1, &names(&["spare", "third"]), 2);
        assert!(
            most.starts_with("bring 1 of them back") && !most.contains("remove spare --accept-loss"),
            "{most}"
        );
    }
}
