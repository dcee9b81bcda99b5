//! A client that runs a script of socket operations from its standard input, one a line. It prints the result
//! of each: `getpeername a = 169.254.37.209:5432`.
//!
//! It retries nothing and hides no error. It shows ports that the kernel picked as `*`.

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
