//! Tests how the import recognises the shares of backends.

use std::net::Ipv4Addr;

use vipnat_common::Protocol;

use super::fixture::nat;
use crate::{
    firewall::import::{Import, Remark},
    table::Select,
};

/// Imports one VIP with a backend for each of these conditions. Returns how it selects, weights and notes.
fn shares(statistics: &[&str]) -> Result<(Select, Vec<u16>, Vec<String>), String> {
    let rule = |(i, statistic): (usize, &&str)| {
        let statistic = match statistic.split_once(' ') {
            Some((mode, rest)) => format!("-m statistic --mode {mode} {rest}"),
            None => String::new(),
        };
        format!("OUTPUT -d 169.254.1.1/32 -p tcp {statistic} -j DNAT --to-destination 247.0.0.{i}")
    };
    let rules: Vec<_> = statistics.iter().enumerate().map(rule).collect();
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    let Import { services, relationships, unsupported, notes } = nat(&rules);
    if let Some(Remark { reason, .. }) = unsupported.first() {
        return Err(reason.clone());
    }
    let service = &services["vip-1-1"];
    let relationship = &relationships["vip-1-1"];
    assert_eq!(&*relationship.service, "vip-1-1");
    assert_eq!(relationship.vip, Ipv4Addr::new(169, 254, 1, 1));
    assert_eq!(relationship.protocol, Some(Protocol::Tcp));
    for (i, backend) in service.backends.iter().enumerate() {
        assert_eq!(backend.ip, Ipv4Addr::new(247, 0, 0, i as u8), "{statistics:?}");
    }
    let weights = service.backends.iter().map(|backend| backend.weight).collect();
    Ok((service.select, weights, notes.into_iter().map(|note| note.reason).collect()))
}

#[track_caller]
fn exactly(statistics: &[&str], select: Select, weights: &[u16]) {
    assert_eq!(shares(statistics), Ok((select, weights.to_vec(), Vec::new())), "{statistics:?}");
}

#[track_caller]
fn with_note(statistics: &[&str], select: Select, weights: &[u16], note: &str) {
    let (got, shares, notes) = shares(statistics).unwrap();
    assert_eq!((got, shares.as_slice()), (select, weights), "{statistics:?}");
    assert!(notes.len() == 1 && notes[0].contains(note), "{note} in {notes:?}");
}

#[test]
fn chains_that_give_even_turns_are_round_robin() {
    exactly(&[""], Select::RoundRobin, &[1]);
    exactly(&["nth --every 2 --packet 0", ""], Select::RoundRobin, &[1, 1]);
    // Old versions of iptables do not print packet 0.
    exactly(&["nth --every 3", "nth --every 2", ""], Select::RoundRobin, &[1, 1, 1]);
    exactly(&["nth --every 2 --packet 0", "nth --every 1 --packet 0"], Select::RoundRobin, &[1, 1]);
}

#[test]
fn the_literal_chain_is_told_with_its_loss_and_taken_for_what_it_was_meant_to_be() {
    let literal = |n: usize| {
        (0..n).map(|packet| format!("nth --every {n} --packet {packet}")).collect::<Vec<_>>()
    };
    for (n, lost) in [(2, "1 of 4 connections (25 %)"), (3, "8 of 27 connections (30 %)")] {
        let rules = literal(n);
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        with_note(&rules, Select::RoundRobin, &vec![1; n], lost);
    }
    let rules = literal(9);
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    with_note(&rules, Select::RoundRobin, &[1; 9], "so 35 % of the connections match none");
    let rest = ["nth --every 3 --packet 0", "nth --every 3 --packet 1", ""];
    with_note(&rest, Select::RoundRobin, &[1, 1, 1], "the last one gets too much");
    let third = "random --probability 0.33333333349";
    with_note(&[third, third, third], Select::Random, &[1, 1, 1], "8 of 27 connections (30 %)");
}

#[test]
fn unequal_turns_are_weights() {
    let note = "the turns come in another order";
    with_note(&["nth --every 4 --packet 0", ""], Select::RoundRobin, &[1, 3], note);
    with_note(&["nth --every 2 --packet 1", ""], Select::RoundRobin, &[1, 1], note);
    let all =
        ["nth --every 6 --packet 0", "nth --every 5 --packet 0", "nth --every 2 --packet 0", ""];
    with_note(&all, Select::RoundRobin, &[1, 1, 2, 2], note);
}

#[test]
fn chance_is_weights() {
    exactly(&["random --probability 0.50000000000", ""], Select::Random, &[1, 1]);
    let thirds = ["random --probability 0.33333333349", "random --probability 0.50000000000", ""];
    exactly(&thirds, Select::Random, &[1, 1, 1]);
    exactly(&["random --probability 0.66666666651", ""], Select::Random, &[2, 1]);
    exactly(&["random --probability 0.99610894918", ""], Select::Random, &[256, 1]);
    let by_hand = ["random --probability 0.333", "random --probability 0.5", ""];
    with_note(&by_hand, Select::Random, &[1, 1, 1], "taken for the weights [1, 1, 1]");
    // Two equal shares of the rest each time: a service with these weights has the same.
    let third = "random --probability 0.33333333349";
    exactly(&[third, third, ""], Select::Random, &[3, 2, 4]);
}

#[test]
fn shares_that_no_service_has_are_refused() {
    for (statistics, reason) in [
        (&["nth --every 2 --packet 0"][..], "50 % of the connections match none of these rules"),
        (&["nth --every 3 --packet 0", "nth --every 2 --packet 0"], "33 % of the connections"),
        (&["random --probability 0.1", "random --probability 0.2"], "72 % of the connections"),
        (&["nth --every 2 --packet 0", "random --probability 0.5", ""], "nth"),
        (&["random --probability 0.0001", ""], "no weights from 1 to 256"),
        (&["random --probability 0", ""], "probability 0"),
        (&["nth --every 0 --packet 0", ""], "unknown statistic"),
        (&["random --probability 7", ""], "unknown statistic"),
        (&["chaos --probability 7", ""], "unknown statistic"),
    ] {
        let refused = shares(statistics).unwrap_err();
        assert!(refused.contains(reason), "{statistics:?}: {reason} in {refused}");
    }
}
