//! psql against PostgreSQL, and redis-cli against Redis.

use std::{process::Command, time::Duration};

use vipnat_testkit::{
    Cgroup, CommandExt as _, Database, Postgres, Server, Session, TEST_PREFIX, patient,
};

use super::client::{GROUP, has, note, note_exit};
use crate::{
    Case, Container, DB, Record, Run,
    tables::{backend, db},
};

/// Asks for the address of the server that answers. psql may believe another one.
const WHO: &str = "select inet_server_addr()";

/// The longest duration of a session. It is longer than that of any session.
const LIMIT: Duration = Duration::from_secs(60);

/// Fields are dropped in this order.
struct Databases {
    _servers: Vec<Postgres>,
    _machine: Cgroup,
}

/// PostgreSQL on two backends, which no other case uses; `None` if it can't run here.
fn postgres(container: &Container, record: &mut Record) -> Option<Databases> {
    if !has(record, &["psql", "setpriv"]) {
        return None;
    }
    let machine = Cgroup::new();
    let starting = [11, 12].map(|number| {
        let host = container.server(number);
        host.add_address(backend(number));
        Postgres::start(host, backend(number), &machine, TEST_PREFIX).expect("make a database")
    });
    let servers = starting
        .into_iter()
        .map(|server| server.ready(&[Database { name: "main" }]).expect("start PostgreSQL"))
        .collect();
    container.apply(&db(&[11, 12]));
    Some(Databases { _servers: servers, _machine: machine })
}

fn psql(container: &Container) -> Command {
    let mut psql = container.app().command("psql");
    psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
        .arg(format!("postgresql://main:main@{DB}/main"));
    psql
}

/// Redis on three backends; empty if it can't run here.
fn redis(container: &Container, record: &mut Record) -> Vec<Server> {
    if !has(record, &["redis-cli", "redis-check-rdb"]) {
        return Vec::new();
    }
    container.apply(&db(&[1, 2, 3]));
    let server =
        |number| Server::redis(container.server(number), backend(number), &format!("R{number}"));
    [1, 2, 3].map(server).into()
}

fn redis_cli(container: &Container) -> Command {
    let mut cli = container.app().command("redis-cli");
    cli.args(["-h", DB]);
    cli
}

fn ask(session: &mut Session, question: &str, record: &mut Record) {
    record.line(session.ask(question).expect("an answer"));
}

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "psql",
        group: GROUP,
        behaviour: "psql: connections take turns, and it says it is connected to the VIP",
        run: Run::Steps(|container, record| {
            let Some(_servers) = postgres(container, record) else { return };
            for _ in 0..3 {
                note(record, psql(container).args(["-c", r"\conninfo", "-c", WHO]));
            }
        }),
        known: None,
    },
    Case {
        name: "psql-session-stays",
        group: GROUP,
        behaviour: "psql: a session stays where it is while the table changes; `\\c` makes a new one",
        run: Run::Steps(|container, record| {
            let Some(_servers) = postgres(container, record) else { return };
            let mut psql_session = psql(container);
            psql_session.limited_to(patient(LIMIT));
            let mut session = Session::open(psql_session).expect("start psql");
            let who = format!("{WHO};");
            ask(&mut session, &who, record);
            container.apply(&db(&[12]));
            note(record, psql(container).args(["-c", WHO]));
            ask(&mut session, &who, record);
            ask(&mut session, &format!("\\c - - - -\n{who}"), record);
            session.close().expect("end psql");
        }),
        known: None,
    },
    Case {
        name: "psql-refused",
        group: GROUP,
        behaviour: "psql where nobody listens, and with a wrong password: what it says",
        run: Run::Steps(|container, record| {
            let Some(_servers) = postgres(container, record) else { return };
            let url = format!("postgresql://main:wrong@{DB}/main");
            note_exit(record, container.app().command("psql").arg(url), 2);
            container.apply(&db(&[8]));
            note_exit(record, psql(container).args(["-c", WHO]), 2);
        }),
        known: None,
    },
    Case {
        name: "redis-cli",
        group: GROUP,
        behaviour: "redis-cli: connections take turns",
        run: Run::Steps(|container, record| {
            let servers = redis(container, record);
            for _ in 0..=servers.len() {
                note(record, redis_cli(container).args(["get", "who"]));
            }
        }),
        known: None,
    },
    Case {
        name: "redis-cli-session-stays",
        group: GROUP,
        behaviour: "redis-cli: a session stays while the table changes, and connects anew when its server goes",
        run: Run::Steps(|container, record| {
            let mut servers = redis(container, record);
            if servers.is_empty() {
                return;
            }
            // The shell adds errors to the output, so that each question has an answer of one line.
            let mut cli = container.app().command("sh");
            cli.args(["-c", "exec redis-cli -h 169.254.37.209 2>&1"]).limited_to(patient(LIMIT));
            let mut session = Session::open(cli).expect("start redis-cli");
            ask(&mut session, "get who", record);
            container.apply(&db(&[2]));
            note(record, redis_cli(container).args(["get", "who"]));
            ask(&mut session, "get who", record);
            drop(servers.remove(0));
            ask(&mut session, "get who", record);
            ask(&mut session, "get who", record);
            session.close().expect("end redis-cli");
        }),
        known: None,
    },
];
