//! Command lines as people write them.

use super::*;

fn call(line: &str) -> Call {
    match parse(&words(line)) {
        Ok(Parsed::Run(call)) => call,
        other => panic!("{line}: {other:?}"),
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn refused(line: &str) -> String {
    parse(&words(line)).expect_err(line).message().to_owned()
}

#[test]
fn flags_stand_anywhere_in_any_spelling() {
    let plain = call("get a b --limit 3 --prefix");
    assert_eq!(plain.action, Action::Get);
    assert_eq!(
        (plain.arguments.join("+"), plain.number("limit"), plain.switch("prefix")),
        ("a+b".to_owned(), 3, true)
    );
    for line in
        ["-w json get a", "get -wjson a", "get a -w=json", "get a --write-out=json", "--write-out json get a"]
    {
        let call = call(line);
        assert_eq!((call.text("write-out"), call.arguments.len()), ("json", 1), "{line}");
    }
    assert!(!call("get a --prefix=false").switch("prefix"));
    assert_eq!(call("put -- -k -v").arguments, ["-k", "-v"]);
    assert_eq!(call("put k -").arguments, ["k", "-"]);
    assert_eq!(call("--endpoints a:1,b:2 --endpoints c:3 get x").list("endpoints"), ["a:1", "b:2", "c:3"]);
    assert_eq!(call("get x").list("endpoints"), ["127.0.0.1:2379"]);
    assert_eq!(call("get x --rev 0x10").number("rev"), 16);
}

#[test]
fn commands_may_be_shortened_while_only_one_begins_so() {
    assert_eq!(call("compa 3").action, Action::Compaction);
    assert_eq!(call("member li").action, Action::MemberList);
}

#[test]
fn faults_say_what_is_known() {
    assert_eq!(refused("get a --limt 3"), "unknown flag: --limt");
    assert_eq!(refused("gte a"), "unknown command \"gte\" for \"ctl\"");
    assert_eq!(
        refused("get a --limit x"),
        "invalid argument \"x\" for \"--limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
    );
    assert_eq!(refused("get a --limit"), "flag needs an argument: --limit");
    assert_eq!(refused("get a -z"), "unknown shorthand flag: 'z' in -z");
}

#[test]
fn groups_and_help_lead_to_help() {
    for (line, want) in [("", 0), ("lease", 1), ("help get", 1), ("lease grant --help", 2), ("-h", 0)] {
        match parse(&words(line)) {
            Ok(Parsed::Help(path)) => assert_eq!(path.len(), want, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn every_flag_has_a_default_of_its_kind() {
    fn walk(command: &'static Command) {
        for flag in command.flags {
            assert_eq!(check(flag, flag.default), Ok(()), "{} --{}", command.name, flag.name);
        }
        command.commands.iter().for_each(walk);
    }
    walk(&ROOT);
    GLOBALS.iter().for_each(|flag| assert_eq!(check(flag, flag.default), Ok(()), "--{}", flag.name));
}
