//! A client that plays a script of socket operations from its standard input, one a line, and
//! prints what each gave: `getpeername a = 169.254.37.209:5432`.
//!
//! Nothing is retried and no error is hidden. Ports that the kernel picked are shown as `*`.

mod address;
mod calls;
mod message;
mod script;
mod uring;

use std::io::{self, Write};

fn main() {
    let mut script = script::Script::default();
    for line in io::stdin().lines() {
        let line = line.expect("read standard input");
        let result = script.play(&line);
        println!("{line} = {result}");
        io::stdout().flush().expect("flush");
    }
}
