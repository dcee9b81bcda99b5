//! `cargo xtask conformance`: one workload behind iptables and behind vipnat, compared.

use anyhow::{Result, bail, ensure};
use clap::Args;
use vipnat_conformance::{Case, Record, Translator, Verdict, cases, run, write_document};

use crate::{build, progress::stage, setup};

#[derive(Args)]
pub(crate) struct Conformance {
    /// Run only cases whose name contains one of these.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Show the observations of each application.
    #[arg(long)]
    records: bool,
    /// Write the table in docs/semantics.md, if all cases pass.
    #[arg(long, conflicts_with = "filters")]
    write: bool,
}

impl Conformance {
    pub(crate) fn run(&self) -> Result<()> {
        let Self { filters, records, write } = self;
        setup::run()?;
        stage("build: vipnat and the programs that the cases run");
        build::test_programs()?;

        let all = cases::all();
        let wanted = |name: &str| {
            filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
        };
        let chosen: Vec<_> = all.iter().copied().filter(|case| wanted(case.name)).collect();
        ensure!(!chosen.is_empty(), "no case has a name with {}", filters.join(" or "));
        stage(&format!(
            "{} cases, each behind iptables-legacy, iptables-nft, nft and vipnat",
            chosen.len()
        ));
        let verdicts = run(&chosen, &Translator::ALL, |case, observed, verdict| {
            tell(case, observed, verdict, *records);
        });

        let count = |kind: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, v)| kind(v)).count();
        let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
        println!(
            "{} identical, {} known differences, {failed} failed, {} NOT RUN",
            count(|verdict| matches!(verdict, Verdict::Identical)),
            count(|verdict| matches!(verdict, Verdict::Known)),
            count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        );
        if failed > 0 {
            bail!("{failed} cases are neither identical nor differ as they are known to");
        }
        if *write {
            write_document(&all);
        }
        Ok(())
    }
}

/// Prints a line for a case that has ended, with the reason if it failed.
fn tell(case: &Case, observed: &[Record], verdict: &Verdict, records: bool) {
    let name = case.name;
    match verdict {
        Verdict::Identical => println!("identical         {name}"),
        Verdict::Known => println!("known difference  {name}"),
        Verdict::Skipped(why) => println!("NOT RUN           {name}: {why}"),
        Verdict::Failed(what) => println!("FAILED            {name}: {what}"),
    }
    if records {
        show(observed);
    }
}

/// Prints each distinct record once, under the names of all that observed it.
fn show(observed: &[Record]) {
    let mut rest: Vec<_> = Translator::ALL.iter().zip(observed).collect();
    while let Some(&(_, first)) = rest.first() {
        let same: Vec<_> = rest.extract_if(.., |(_, record)| *record == first).collect();
        let names: Vec<_> = same.iter().map(|(translator, _)| translator.to_string()).collect();
        println!("  {}", names.join(", "));
        first.lines().iter().for_each(|line| println!("    {line}"));
    }
}
