use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

/// An open transaction. It is rolled back when dropped.
#[derive(Debug)]
pub(crate) struct Transaction {
    psql: Child,
    input: Option<ChildStdin>,
}

impl Transaction {
    /// Waits until these statements have been executed.
    pub(super) fn begin(mut psql: Command, statements: &str) -> Self {
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = psql.stdin.take().unwrap();
        writeln!(input, "BEGIN;\n{statements};\n\\echo begun").unwrap();
        let mut lines = BufReader::new(psql.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "begun"), "{statements}");
        Self { psql, input: Some(input) }
    }
}

impl Transaction {
    /// Commits the transaction, which releases its locks.
    pub(crate) fn commit(mut self) {
        writeln!(self.input.as_mut().unwrap(), "COMMIT;").unwrap();
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.psql.wait();
    }
}
