//! Decides whether a licence expression can be met with the licences we allow.
//!
//! The grammar is SPDX's as far as crates use it: names, AND, OR, WITH, parentheses, and the old slash for OR.
//! Called by: the test of the dependencies.

/// Whether some choice of the expression's alternatives uses allowed licences only.
///
/// # Errors
/// An expression that cannot be read.
pub fn is_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, position: 0, allowed };
    let met = reader.alternatives()?;
    match reader.next() {
        None => Ok(met),
        Some(word) => Err(format!("{word:?} is left over in {expression:?}")),
    }
}

struct Reader<'a> {
    words: &'a [&'a str],
    position: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.position).copied()
    }

    fn next(&mut self) -> Option<String> {
        let word = self.peek().map(str::to_owned);
        self.position += 1;
        word
    }

    fn take(&mut self, word: &str) -> bool {
        let here = self.peek() == Some(word);
        self.position += usize::from(here);
        here
    }

    fn alternatives(&mut self) -> Result<bool, String> {
        let mut met = self.all()?;
        while self.take("OR") {
            met |= self.all()?;
        }
        Ok(met)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut met = self.one()?;
        while self.take("AND") {
            met &= self.one()?;
        }
        Ok(met)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let met = self.alternatives()?;
            return if self.take(")") { Ok(met) } else { Err("a parenthesis is open".to_owned()) };
        }
        let mut name = self.next().ok_or("a licence is missing")?;
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.next().ok_or("an exception is missing")?);
        }
        Ok((self.allowed)(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_a_choice() {
        let allowed = |name: &str| matches!(name, "MIT" | "Apache-2.0" | "Apache-2.0 WITH LLVM-exception");
        let check = |expression: &str, expected: bool| {
            assert_eq!(is_met(expression, &allowed), Ok(expected), "{expression}")
        };
        check("MIT", true);
        check("GPL-3.0", false);
        check("GPL-3.0 OR MIT", true);
        check("GPL-3.0/MIT", true);
        check("MIT AND GPL-3.0", false);
        check("MIT AND (GPL-3.0 OR Apache-2.0)", true);
        check("GPL-3.0 OR MIT AND Apache-2.0", true);
        check("Apache-2.0 WITH LLVM-exception AND MIT", true);
        assert!(is_met("(MIT", &allowed).is_err());
        assert!(is_met("MIT Apache-2.0", &allowed).is_err());
        assert!(is_met("", &allowed).is_err());
    }
}
