//! Runs the cases, each in all containers, and judges.

use std::{
    iter, mem,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
};

use super::{case::Case, container::Container, record::Record, translator::Translator};

/// How many containers are at work at once; those that only wait are not counted.
const AT_ONCE: usize = 6;

/// What came of a case.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing differs.
    Identical,
    /// It differs as it is known to.
    Known,
    /// It can't run here, and why.
    Skipped(String),
    /// What is wrong.
    Failed(String),
}

/// Runs cases; `tell` hears of each as it ends. In the order of `cases`.
pub fn run<'a>(
    cases: &'a [&'a Case],
    tell: impl Fn(&Case, &[Record], &Verdict),
) -> Vec<(&'a Case, Verdict)> {
    let gate = Arc::new(Gate::new(AT_ONCE));
    let (results, arrived) = mpsc::channel();
    thread::scope(|scope| {
        let gate = &gate;
        scope.spawn(move || {
            thread::scope(|scope| {
                for (case, translator) in units(cases) {
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
            if records[case].len() == Translator::ALL.len() {
                let (records, verdict) = judge(cases[case], mem::take(&mut records[case]));
                tell(cases[case], &records, &verdict);
                verdicts[case] = Some(verdict);
            }
        }
        iter::zip(cases, verdicts)
            .map(|(case, verdict)| (*case, verdict.expect("every case ends")))
            .collect()
    })
}

/// Every case with every translator.
fn units(cases: &[&Case]) -> impl Iterator<Item = (usize, Translator)> + use<> {
    (0..cases.len()).flat_map(|case| Translator::ALL.map(|translator| (case, translator)))
}

/// What an application observes, or what went wrong with the case.
fn observe(case: &Case, translator: Translator, gate: &Arc<Gate>) -> Result<Record, String> {
    panic::catch_unwind(AssertUnwindSafe(|| {
        let mut record = Record::default();
        (case.run)(&Container::new(translator, Arc::clone(gate)), &mut record);
        record
    }))
    .map_err(|panicked| {
        let message = panicked.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panicked.downcast_ref::<&str>().copied());
        format!("{translator}: {}", message.unwrap_or("a panic without words"))
    })
}

type Observed = (Translator, Result<Record, String>);

fn judge(case: &Case, mut observed: Vec<Observed>) -> (Vec<Record>, Verdict) {
    observed.sort_by_key(|(translator, _)| *translator as u8);
    let mut records = Vec::new();
    for (_, record) in observed {
        match record {
            Ok(record) => records.push(record),
            Err(message) => return (Vec::new(), Verdict::Failed(message)),
        }
    }
    let verdict = verdict(case, &records);
    (records, verdict)
}

/// Judges the records of a case, in the order of [`Translator::ALL`].
fn verdict(case: &Case, records: &[Record]) -> Verdict {
    if let Some(why) = records.iter().find_map(Record::skipped) {
        return Verdict::Skipped(why.to_owned());
    }
    let [reference, others @ .., vipnat] = records else { panic!("records of all translators") };
    if reference.lines().is_empty() {
        return Verdict::Failed("nothing was observed".to_owned());
    }
    for (translator, other) in iter::zip(&Translator::ALL[1..], others) {
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

/// Lets only so many in at once.
#[derive(Debug)]
pub(super) struct Gate {
    free: Mutex<usize>,
    left: Condvar,
}

impl Gate {
    fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), left: Condvar::new() }
    }

    fn enter(&self) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.left.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
    }

    fn leave(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.left.notify_one();
    }

    /// Makes room for another one until `work` is done.
    pub(super) fn while_away(&self, work: impl FnOnce()) {
        self.leave();
        work();
        self.enter();
    }
}
