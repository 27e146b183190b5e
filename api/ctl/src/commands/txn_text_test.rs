//! Lines of transactions, and that no line at all breaks the reader.

use proptest::prelude::*;

use super::*;

#[test]
fn comparisons_are_read() {
    let read = comparison("mod(\"key1\") > \"0\"").expect("a comparison");
    assert_eq!((read.key.as_ref(), read.result()), (&b"key1"[..], CompareResult::Greater));
    assert_eq!(read.target_union, Some(TargetUnion::ModRevision(0)));
    let value = comparison("value( \"a\\tb\")  !=   `raw` and more").expect("blanks and what follows");
    assert_eq!((value.key.as_ref(), value.result()), (&b"a\tb"[..], CompareResult::NotEqual));
    assert_eq!(
        comparison("lease(\"k\") = \"ff\"").expect("a lease").target_union,
        Some(TargetUnion::Lease(255))
    );
}

#[test]
fn broken_comparisons_are_refused_with_an_example() {
    for line in [
        "",
        "junk",
        "value(a) = \"b\"",
        "value(\"a\")= \"b\"",
        "value(\"a\") =\"b\"",
        "ver(\"a\") = \"x\"",
        "size(\"a\") = \"1\"",
        "value(\"a\") ~ \"b\"",
    ] {
        let failure = comparison(line).expect_err(line);
        assert_eq!(failure.code(), INPUT, "{line}");
        assert!(!failure.notes().is_empty(), "{line}");
    }
}

#[test]
fn words_keep_what_is_quoted() {
    let split = |line: &str| words(line).expect("words");
    assert_eq!(split("put key \"two words\" 'and \"three\"'"), ["put", "key", "two words", "and \"three\""]);
    assert_eq!(split("a\"b c"), ["a\"b", "c"]);
    assert_eq!(split("\"open word"), ["open", "word"]);
    assert_eq!(split("  \"\" ''"), ["", ""]);
    assert!(words("\"\\q\"").is_err());
}

#[test]
fn requests_have_the_flags_of_their_commands() {
    use pb::request_op::Request;
    let Some(Request::RequestRange(get)) = operation("get --prefix a --limit 3").expect("a get").request
    else {
        panic!("a get")
    };
    assert_eq!((get.range_end.as_ref(), get.limit), (&b"b"[..], 3));
    let Some(Request::RequestPut(put)) = operation("put k \"v w\" --lease=1f").expect("a put").request else {
        panic!("a put")
    };
    assert_eq!((put.value.as_ref(), put.lease), (&b"v w"[..], 31));
    assert_eq!(operation("put onlykey").expect_err("no value").code(), ARGUMENTS);
    for line in ["put", "move a b", "get a --nope", ""] {
        assert_eq!(operation(line).expect_err(line).code(), INPUT, "{line}");
    }
}

proptest! {
    /// Whatever a line is, it is read or refused; quoted texts come back as they were.
    #[test]
    fn no_line_breaks_the_reader(line in "[ -~éж\t]{0,60}", inner in "[a-z\\\\\"'(){}=<>! ]{0,40}") {
        for text in [line.as_str(), inner.as_str(), &format!("value({inner}) = {line}"), &format!("put {inner} {line}")] {
            let _ = comparison(text);
            let _ = operation(text);
            let _ = words(text);
        }
    }

    #[test]
    fn what_is_quoted_comes_back(key in "\\PC{0,20}", value in any::<Vec<u8>>()) {
        let line = format!("value({}) = {}", go::quote(key.as_bytes()), go::quote(&value));
        let read = comparison(&line).expect("a comparison");
        prop_assert_eq!(read.key.as_ref(), key.as_bytes());
        prop_assert_eq!(read.target_union, Some(TargetUnion::Value(value.into())));
    }
}
