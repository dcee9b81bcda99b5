//! The scenes of the demonstration.

use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail, ensure};
use vipnat_testkit::{
    Cgroup, CommandExt as _, Database, NetNs, Network, Postgres, Session, Vipnat, outcome, sweep,
};

use super::story::Story;

/// The prefix of all names that the demo uses.
const PREFIX: &str = "vipnat-demo";

const APP_HOST: Ipv4Addr = Ipv4Addr::new(247, 221, 80, 10);
const SERVICE_HOSTS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(247, 221, 80, 48), Ipv4Addr::new(247, 221, 80, 52)];

/// The VIP of the name `db`, in every app.
const VIP: &str = "169.254.37.209";

/// A connection string, as an application makes it from `PLATFORM_RELATIONSHIPS`.
const URL: &str = r#"$(echo $PLATFORM_RELATIONSHIPS | base64 -d | jq -r '.db[0] | "postgresql://\(.username):\(.password)@\(.ip):\(.port)/\(.path)"')"#;

/// A query for the server and the database.
const WHO: &str = "select format('%s, database %s', inet_server_addr(), current_database())";

/// Runs the demonstration. Removes all that it made, even after a failure.
pub(crate) fn run() -> Result<()> {
    sweep(PREFIX);
    let story = Story::begin()?;
    let told = Demo::set_up(&story).and_then(|demo| demo.tell(&story));
    // Ctrl-C also ends the servers and clients, so their errors are not the cause.
    story.check().and(told)?;
    story.end();
    Ok(())
}

/// The hosts, servers and apps of the demonstration. Fields are dropped in this order: translation first,
/// then the servers behind it.
struct Demo {
    vipnat: Vipnat,
    apps: [(&'static str, Cgroup); 2],
    app_host: NetNs,
    _servers: Vec<Postgres>,
    _machine: Cgroup,
    _network: Network,
}

impl Demo {
    fn set_up(story: &Story) -> Result<Self> {
        story.chapter("Three hosts, without any way out")?;
        let network = Network::new();
        let app_host = network.host(APP_HOST);
        let service_hosts = SERVICE_HOSTS.map(|address| (address, network.host(address)));
        story.say(&format!(
            "an app host ({APP_HOST}) and two service hosts ({}, {}): network namespaces with a\n\
             cable to one switch. Each knows 240.0.0.0/4 and nothing else:",
            SERVICE_HOSTS[0], SERVICE_HOSTS[1]
        ));
        story.prompt("ip route");
        story.output(&outcome(app_host.command("ip").arg("route")).stdout);

        story.chapter("A real PostgreSQL on each service host")?;
        let machine = Cgroup::with_prefix(PREFIX);
        let databases = |host: Ipv4Addr| {
            // The second app's database lives on the first host only.
            let mut databases = vec![Database { name: "main" }];
            databases.extend((host == SERVICE_HOSTS[0]).then_some(Database { name: "blog" }));
            databases
        };
        let progress = story.progress("making two data directories and starting two servers");
        let starting: Vec<_> = service_hosts
            .iter()
            .map(|(address, host)| Postgres::start(host, *address, &machine, PREFIX))
            .collect::<Result<_>>()?;
        let mut servers = Vec::new();
        for (server, (address, _)) in starting.into_iter().zip(&service_hosts) {
            story.check()?;
            servers.push(server.ready(&databases(*address))?);
        }
        progress.done();

        let apps = ["shop", "blog"].map(|name| (name, machine.child(name)));
        let vipnat = Vipnat::with(vipnat_testkit::program("vipnat"), PREFIX);
        Ok(Self { vipnat, apps, app_host, _servers: servers, _machine: machine, _network: network })
    }

    fn tell(&self, story: &Story) -> Result<()> {
        let [first, second] = SERVICE_HOSTS;

        story.chapter("The relationship table")?;
        let table = self.table(&[first, second]);
        story
            .say("two apps, each with a relationship called `db`, which go to different services:");
        story.output(&table);
        let file = self.apply(story, &table)?;

        story.chapter("Real psql, inside the app's cgroup, through a VIP that no host has")?;
        let script = "echo $PLATFORM_RELATIONSHIPS | base64 -d | jq -r '.db[0].ip'";
        story.prompt(script);
        let vip = self.run_in(story, "shop", &file, script)?;
        ensure!(vip.trim() == VIP, "the VIP should be {VIP}");
        story.say("psql believes it is connected to the VIP; the server knows better:");
        story.prompt(r"psql $URL -c '\conninfo' -c 'select inet_server_addr(), …'");
        let script = format!("psql -At \"{URL}\" -c '\\conninfo' -c \"{WHO}\"");
        let answers = self.run_in(story, "shop", &file, &script)?;
        ensure!(answers.contains(VIP) && answers.contains(&first.to_string()), "another answered");
        story.say(
            "round robin, one step for each connection ($URL is what the first command read):",
        );
        for turn in 1..4 {
            self.query(story, "shop", &file, &SERVICE_HOSTS[turn % 2].to_string())?;
        }

        story.chapter("The service moves, a session stays")?;
        let mut session =
            Session::open(self.exec("shop", &file, &format!("exec psql -At \"{URL}\"")))?;
        story.say("a session opened now:");
        story.prompt("psql $URL");
        let stays = session.ask(&format!("{WHO};"))?;
        story.output(&stays);
        ensure!(stays.starts_with(&first.to_string()), "the session should be on {first}");
        story.say(&format!("now the service leaves {first} and lives on {second} alone:"));
        let file = self.apply(story, &self.table(&[second]))?;
        story.say("the next connections go there, and the session opened before does not notice:");
        for _ in 0..2 {
            self.query(story, "shop", &file, &second.to_string())?;
        }
        story.prompt("(the open session)");
        let still = session.ask(&format!("{WHO};"))?;
        story.output(&still);
        ensure!(still == stays, "the open session should have stayed");
        session.close()?;

        story.chapter("Another app, the same VIP, its own database")?;
        for app in ["shop", "blog"] {
            let script = "echo $PLATFORM_RELATIONSHIPS | base64 -d | jq -r '.db[0].ip'";
            story.prompt(&format!("[{app}] {script}"));
            let vip = self.run_in(story, app, &file, script)?;
            ensure!(vip.trim() == VIP, "the VIP should be {VIP}");
        }
        self.query(story, "shop", &file, &format!("{second}, database main"))?;
        self.query(story, "blog", &file, &format!("{first}, database blog"))?;

        story.chapter("What the operator sees")?;
        story.prompt("vipnat list");
        story.output(&self.vipnat.ok(["list"]));
        let pin = self.vipnat.bpffs().join("maps/vips");
        story.prompt(&format!("bpftool map dump pinned {}", pin.display()));
        let dump = outcome(Command::new("bpftool").args(["map", "dump", "pinned"]).arg(pin));
        ensure!(dump.status.success(), "bpftool failed: {dump}");
        story.output(&dump.stdout);
        Ok(())
    }

    /// The table of the demo with the shop's database on these hosts.
    fn table(&self, postgres: &[Ipv4Addr]) -> String {
        let list: Vec<_> = postgres.iter().map(|ip| format!("\"{ip}\"")).collect();
        let mut table = format!(
            "[services.postgres]\nbackends = [{}]\n\n[services.blogdb]\nbackends = [\"{}\"]\n",
            list.join(", "),
            SERVICE_HOSTS[0],
        );
        for ((app, cgroup), (service, name)) in
            self.apps.iter().zip([("postgres", "main"), ("blogdb", "blog")])
        {
            table += &format!(
                "\n[apps.{app}]\ncgroup = \"{}\"\n[apps.{app}.relationships.db]\nservice = \
                 \"{service}\"\nendpoint = {{ scheme = \"pgsql\", port = 5432, username = \
                 \"{name}\", password = \"{name}\", path = \"{name}\" }}\n",
                cgroup.relative(),
            );
        }
        table
    }

    fn apply(&self, story: &Story, table: &str) -> Result<PathBuf> {
        let file = self.vipnat.table(table);
        story.prompt("vipnat apply table.toml");
        let applied = self.vipnat.run([OsStr::new("apply"), file.as_os_str()]);
        story.output(&applied.stdout);
        ensure!(applied.status.success(), "vipnat apply failed: {applied}");
        Ok(file)
    }

    /// Makes one connection of an app; the answer must begin with `expected`.
    fn query(&self, story: &Story, app: &str, table: &Path, expected: &str) -> Result<()> {
        story.prompt(&format!("[{app}] psql $URL -c 'select inet_server_addr(), …'"));
        let answer = self.run_in(story, app, table, &format!("psql -At \"{URL}\" -c \"{WHO}\""))?;
        ensure!(answer.starts_with(expected), "{expected} should have answered");
        Ok(())
    }

    /// Runs a shell script as an app would, and shows what it prints.
    fn run_in(&self, story: &Story, app: &str, table: &Path, script: &str) -> Result<String> {
        story.check()?;
        let ran = outcome(&mut self.exec(app, table, script));
        story.output(&ran.stdout);
        if !ran.status.success() {
            bail!("the command failed: {ran}");
        }
        Ok(ran.stdout)
    }

    /// `vipnat exec --app APP TABLE -- sh -c SCRIPT`, on the app host.
    fn exec(&self, app: &str, table: &Path, script: &str) -> Command {
        let mut command = self.vipnat.command(["exec", "--app", app]);
        command.arg(table).args(["--", "sh", "-c", script]).in_netns(&self.app_host);
        command
    }
}
