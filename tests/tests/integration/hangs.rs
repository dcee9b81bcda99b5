//! What waits for others for ever: files that are none, file systems, readers, locks. `run` ends by SIGTERM
//! whatever it waits for, and nothing but a regular file is waited for at all.

use std::{fs, io::Write as _, os::unix::net::UnixListener, path::Path, process::Stdio};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use crate::scene::{Scene, ip, list};

#[test]
fn what_is_no_file_is_refused_by_every_command_that_reads_one() {
    let scene = Scene::new(0);
    let directory = scene.vipnat.table("").parent().unwrap().to_owned();
    let (fifo, socket) = (directory.join("fifo"), directory.join("socket"));
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    let null = Path::new("/dev/null");
    for (file, kind) in
        [(&*fifo, "a pipe (FIFO)"), (&socket, "a socket"), (null, "a character device")]
    {
        let file = file.to_str().unwrap();
        for arguments in [
            &["check", file][..],
            &["apply", file],
            &["apply", "--dry-run", file],
            &["run", file],
            &["env", file, "--app", "shop"],
            &["export", "iptables", file, "--app", "shop"],
            &["import", "platform", file, "--app", "shop", "--cgroup", "shop"],
            &["import", "iptables", file, "--app", "shop", "--cgroup", "shop"],
            &["exec", "--app", "shop", file, "--", "true"],
        ] {
            let outcome = scene.vipnat.run(arguments);
            assert_eq!(outcome.code(), Some(2), "{arguments:?}: {outcome}");
            let expected = format!("vipnat: {file}: this is {kind}, not a file");
            assert!(outcome.stderr.starts_with(&expected), "{arguments:?}: {outcome}");
        }
    }
    // Standard input may be anything.
    let mut check = scene.vipnat.command(["check", "-"]);
    let mut check = check.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(scene.table("[]").as_bytes()).unwrap();
    assert!(check.wait().unwrap().success());
}

/// Opening it once waited for a writer, and nothing ended that.
#[test]
fn a_fifo_in_the_place_of_the_table_is_refused_and_the_table_before_it_stays() {
    let scene = Scene::new(2);
    let mut run = scene.vipnat.follow(&scene.table(&list([0])), &[]);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let fifo = file.with_file_name("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    fs::rename(&fifo, &file).unwrap();
    run.wait_for(|line| line.contains("this is a pipe (FIFO), not a file"));
    run.wait_for(|line| line.contains("the table before it stays in force"));
    assert_eq!(scene.who(), "0");
    scene.vipnat.replace_table(&scene.table(&list([1])));
    run.wait_for(|line| line.contains(&ip(1).to_string()));
    run.signal(Signal::SIGTERM);
    assert!(run.ends().success());
}
