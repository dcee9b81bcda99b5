//! Runs each case in the containers of all translators, and compares the records.

use std::{
    iter, mem,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, mpsc},
    thread,
};

use crate::{case::Case, container::Container, gate::Gate, record::Record, translator::Translator};

/// The number of containers that work at once. Those that only wait do not count.
const AT_ONCE: isize = 6;

/// The result of a case.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing differs.
    Identical,
    /// It differs exactly as known.
    Known,
    /// It can't run here, for this reason.
    Skipped(String),
    /// It fails, for this reason.
    Failed(String),
}

/// Runs cases behind each of the translators. The first translator is the reference, and the last is vipnat.
/// Calls `tell` when a case ends. Returns the verdicts in the order of `cases`.
pub fn run<'a>(
    cases: &[&'a Case],
    translators: &[Translator],
    tell: impl Fn(&Case, &[Record], &Verdict),
) -> Vec<(&'a Case, Verdict)> {
    let gate = Arc::new(Gate::new(AT_ONCE));
    let (results, arrived) = mpsc::channel();
    thread::scope(|scope| {
        let gate = &gate;
        scope.spawn(move || {
            thread::scope(|scope| {
                for (case, translator) in units(cases, translators) {
                    let results = results.clone();
                    gate.enter();
                    scope.spawn(move || {
                        let record = observe(cases[case], translator, gate);
                        gate.leave();
                        results.send((case, translator, record)).expect("the receiver waits");
                    });
                }
            });
        });
        let mut records: Vec<_> = iter::repeat_with(Vec::new).take(cases.len()).collect();
        let mut verdicts: Vec<_> = iter::repeat_with(|| None).take(cases.len()).collect();
        for (case, translator, record) in arrived {
            records[case].push((translator, record));
            if records[case].len() == translators.len() {
                let (records, verdict) =
                    judge(cases[case], translators, mem::take(&mut records[case]));
                tell(cases[case], &records, &verdict);
                verdicts[case] = Some(verdict);
            }
        }
        iter::zip(cases, verdicts)
            .map(|(case, verdict)| (*case, verdict.expect("every case ends")))
            .collect()
    })
}

/// Every case with every translator. The last cases come first, since they wait longest.
fn units(cases: &[&Case], translators: &[Translator]) -> impl Iterator<Item = (usize, Translator)> {
    let cases = (0..cases.len()).rev();
    cases.flat_map(|case| translators.iter().map(move |translator| (case, *translator)))
}

/// The observations of an application, or the reason why the case failed.
fn observe(case: &Case, translator: Translator, gate: &Arc<Gate>) -> Result<Record, String> {
    panic::catch_unwind(AssertUnwindSafe(|| {
        let mut record = Record::default();
        case.run.inside(&Container::new(translator, Arc::clone(gate)), &mut record);
        record
    }))
    .map_err(|panicked| {
        let message = panicked.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panicked.downcast_ref::<&str>().copied());
        format!("{translator}: {}", message.unwrap_or("a panic without words"))
    })
}

type Observed = (Translator, Result<Record, String>);

fn judge(
    case: &Case,
    translators: &[Translator],
    mut observed: Vec<Observed>,
) -> (Vec<Record>, Verdict) {
    observed.sort_by_key(|(one, _)| translators.iter().position(|translator| translator == one));
    let mut records = Vec::new();
    for (_, record) in observed {
        match record {
            Ok(record) => records.push(record),
            Err(message) => return (Vec::new(), Verdict::Failed(message)),
        }
    }
    let verdict = verdict(case, translators, &records);
    (records, verdict)
}

/// Compares the records of a case, which are in the order of `translators`.
fn verdict(case: &Case, translators: &[Translator], records: &[Record]) -> Verdict {
    if let Some(why) = records.iter().find_map(Record::skipped) {
        return Verdict::Skipped(why.to_owned());
    }
    let [reference, others @ .., vipnat] = records else { panic!("records of all translators") };
    if reference.lines().is_empty() {
        return Verdict::Failed("nothing was observed".to_owned());
    }
    for (translator, other) in iter::zip(&translators[1..], others) {
        let difference = reference.difference(other);
        if !difference.is_none() {
            let message = format!("{translator} differs from iptables-legacy:\n{difference}");
            return Verdict::Failed(message);
        }
    }
    let difference = reference.difference(vipnat);
    match &case.known {
        None if difference.is_none() => Verdict::Identical,
        None => Verdict::Failed(format!("vipnat differs from iptables:\n{difference}")),
        Some(_) if difference.is_none() => {
            Verdict::Failed("the known difference has gone away".to_owned())
        }
        Some(known)
            if (known.iptables, known.vipnat) == (&*difference.first(), &*difference.second()) =>
        {
            Verdict::Known
        }
        Some(_) => Verdict::Failed(format!(
            "vipnat differs from iptables in another way than the known one:\n{difference}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Known, Run};

    const CASE: Case =
        Case { name: "case", group: "", behaviour: "", run: Run::Steps(|_, _| {}), known: None };
    const KNOWN: Case = Case {
        known: Some(Known { iptables: "peer vip", vipnat: "peer backend", why: "" }),
        ..CASE
    };

    /// The verdict for these observations, one for each translator.
    fn verdict_of(case: &Case, lines: [&str; 4]) -> Verdict {
        let records = lines.map(|lines| {
            let mut record = Record::default();
            record.line(lines);
            record
        });
        verdict(case, &Translator::ALL, &records)
    }

    #[track_caller]
    fn fails(case: &Case, lines: [&str; 4], because: &str) {
        match verdict_of(case, lines) {
            Verdict::Failed(message) => assert!(message.contains(because), "{message}"),
            verdict => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn the_same_records_are_identical() {
        assert!(matches!(verdict_of(&CASE, ["ok\npeer vip"; 4]), Verdict::Identical));
    }

    #[test]
    fn an_unexpected_difference_fails() {
        let lines = ["ok\npeer vip", "ok\npeer vip", "ok\npeer vip", "ok\npeer backend"];
        fails(&CASE, lines, "-peer vip\n    +peer backend");
        assert!(matches!(verdict_of(&KNOWN, lines), Verdict::Known));
    }

    #[test]
    fn a_known_difference_that_has_gone_away_fails() {
        fails(&KNOWN, ["peer vip"; 4], "gone away");
    }

    #[test]
    fn another_difference_than_the_known_one_fails() {
        let another = ["peer vip", "peer vip", "peer vip", "peer other"];
        fails(&KNOWN, another, "another way");
        let more = ["peer vip", "peer vip", "peer vip", "peer backend\nmore"];
        fails(&KNOWN, more, "another way");
    }

    #[test]
    fn iptables_that_differs_from_iptables_fails() {
        fails(&CASE, ["a", "b", "a", "a"], "iptables-nft differs");
        fails(&CASE, ["a", "a", "b", "a"], "nft differs");
    }

    #[test]
    fn a_case_that_observes_nothing_fails() {
        fails(&CASE, [""; 4], "nothing");
    }

    #[test]
    fn a_case_that_one_translator_can_not_run_is_skipped() {
        let mut records: [Record; 4] = std::array::from_fn(|_| Record::default());
        records[2].skip("no psql");
        assert!(
            matches!(verdict(&CASE, &Translator::ALL, &records), Verdict::Skipped(why) if why == "no psql")
        );
    }
}
