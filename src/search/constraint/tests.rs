//! The grammar of quotas, by examples and by laws.

use proptest::prelude::*;

use super::*;

fn quota(text: &str) -> Quota {
    Quota::parse(text).unwrap()
}

fn error(text: &str) -> String {
    Quota::parse(text).unwrap_err().to_string()
}

#[test]
fn vegas_own_example_is_read_and_printed_back() {
    let quota = quota("flops < 10 and params in [100, 1000] and host_latency < 5 and model_valid");
    assert_eq!(quota.to_string(), "flops < 10 and params in [100, 1000] and latency < 5");
    assert!(quota.is_measured() && quota.limits(Quantity::Latency) && !quota.limits(Quantity::Memory));
    let costs = |flops: f64, params: f64, latency: Option<f64>| {
        quota.check(|quantity| match quantity {
            Quantity::Flops => Some(flops),
            Quantity::Params => Some(params),
            Quantity::Latency => latency,
            Quantity::Memory | Quantity::PeakMemory => None,
        })
    };
    assert_eq!(costs(9.9, 1000.0, None), Ok(()));
    assert_eq!(costs(12.3, 100.0, None).unwrap_err().to_string(), "flops is 12.3, the quota allows < 10");
    let few = costs(1.0, 99.0, None).unwrap_err();
    assert_eq!(
        (few.to_string().as_str(), few.limit()),
        ("params is 99, the quota allows in [100, 1000]", Limit::Lower)
    );
    assert_eq!(costs(1.0, 1001.0, None).unwrap_err().limit(), Limit::Upper);
    assert_eq!(costs(1.0, 100.0, Some(5.0)).unwrap_err().quantity, Quantity::Latency);
    assert!(costs(f64::NAN, 100.0, None).is_err(), "what is not a number is within no limit");
}

#[test]
fn conditions_are_read_from_either_side_and_in_any_notation_of_numbers() {
    for (text, printed) in [
        ("5 > flops", "flops < 5"),
        ("1e3>=params and 1.5E-1<flops", "params <= 1000 and flops > 0.15"),
        ("  memory==.5 ", "memory == 0.5"),
        ("2 == device_latency", "latency == 2"),
        ("model_valid", "model_valid"),
        ("model_valid and peak_memory >= +7.", "peak_memory >= 7"),
        ("params >= 1 and params <= 1", "params >= 1 and params <= 1"),
    ] {
        assert_eq!(quota(text).to_string(), printed, "{text}");
    }
    assert!(!quota("flops < 1 and params < 2 and memory < 3").is_measured());
    let bounds = quota("flops < 9 and flops <= 8 and flops > 1").bounds(Quantity::Flops).unwrap();
    assert_eq!(bounds, Bounds { low: 1.0, with_low: false, high: 8.0, with_high: true });
}

#[test]
fn an_error_says_where_what_stands_there_and_what_could() {
    for (text, expected) in [
        ("", "at character 1: found the end, expected a name such as flops, or a number"),
        ("flops", "at character 6: found the end, expected <, <=, >, >=, == or in"),
        ("flops = 3", "at character 7: found `=`, expected <, <=, >, >=, == or in"),
        ("flops < 3 or params < 2", "at character 11: found `or`, expected `and` or the end"),
        ("flops < 3 and", "at character 14: found the end, expected a name such as flops, or a number"),
        ("flops < 10G", "at character 11: found `G`, expected `and` or the end"),
        ("1 < flops < 3", "at character 11: found `<`, expected `and` or the end"),
        ("flop < 3", "at character 1: there is no `flop`; did you mean `flops`?"),
        ("3 > zzz", "at character 5: there is no `zzz`; there are flops, params, memory, latency, peak_memory"),
        ("params in (1, 2)", "at character 11: found `(`, expected `[`"),
        ("params in [1 2]", "at character 14: found `2`, expected `,`"),
        ("params < 1.2.3", "at character 10: `1.2.3` is not a finite number"),
        ("params < 1e999", "at character 10: `1e999` is not a finite number"),
        ("flops < ä", "at character 9: found `ä`, expected a number"),
        ("flops < 1 and flops > 2", "at character 15: `flops > 2` leaves nothing that flops could be"),
        ("flops < 1 and 1 <= flops", "at character 15: `flops >= 1` leaves nothing that flops could be"),
        ("latency < 0", "at character 1: `latency < 0` leaves nothing that latency could be"),
        ("params in [5, 1]", "at character 1: `params in [5, 1]` leaves nothing that params could be"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    let bound = || prop_oneof![(0u32..20).prop_map(f64::from), 0.0..1e300, any::<f32>().prop_map(f64::from)];
    let finite = move || bound().prop_filter("finite", |bound| bound.is_finite());
    let allowed = (0usize..6, finite(), finite()).prop_map(|(which, a, b)| match which {
        0 => Allowed::Below(a),
        1 => Allowed::AtMost(a),
        2 => Allowed::Above(a),
        3 => Allowed::AtLeast(a),
        4 => Allowed::Exactly(a),
        _ => Allowed::Within(a.min(b), a.max(b)),
    });
    (proptest::sample::select(Quantity::ALL.to_vec()), allowed)
        .prop_map(|(quantity, allowed)| Condition { quantity, allowed })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}") {
        let _ = Quota::parse(&text);
    }

    #[test]
    fn no_row_of_its_own_words_makes_it_panic_and_errors_lie_in_the_text(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "flops", "params", "and", "in", "[", "]", ",", "<", ">=", "==", "=", "3", "-1", "1e", "ü", "model_valid",
            ]),
            0..12,
        ),
    ) {
        let text = words.join(" ");
        if let Err(error) = Quota::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.at));
        }
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_unless_it_allows_nothing(conditions in prop::collection::vec(condition(), 0..5)) {
        let quota = Quota(conditions);
        let possible = Quantity::ALL.into_iter().all(|quantity| quota.bounds(quantity).is_some());
        match Quota::parse(&quota.to_string()) {
            Ok(read) => prop_assert!(possible && read == quota),
            Err(QuotaError { why, .. }) => {
                prop_assert!(!possible && matches!(why, QuotaProblem::Impossible { .. }), "{}: {}", quota, why);
            }
        }
    }

    #[test]
    fn a_check_is_every_comparison_as_written(
        conditions in prop::collection::vec(condition(), 0..5),
        costs in prop::collection::vec(prop::option::of((0u32..20).prop_map(f64::from)), 5),
    ) {
        let cost = |quantity: Quantity| costs[Quantity::ALL.iter().position(|q| *q == quantity).unwrap()];
        let naive = conditions.iter().all(|condition| {
            let printed = condition.to_string();
            let words: Vec<&str> = printed.split([' ', '[', ',', ']']).filter(|word| !word.is_empty()).collect();
            let bound = |at: usize| words[at].parse::<f64>().unwrap();
            let Some(value) = cost(Quantity::named(words[0]).unwrap()) else { return true };
            match words[1] {
                "<" => value < bound(2),
                "<=" => value <= bound(2),
                ">" => value > bound(2),
                ">=" => value >= bound(2),
                "==" => value == bound(2),
                _ => value >= bound(2) && value <= bound(3),
            }
        });
        let quota = Quota(conditions);
        let checked = quota.check(cost);
        prop_assert_eq!(checked.is_ok(), naive);
        if let Err(violation) = checked {
            let bounds = quota.bounds(violation.quantity);
            if let Some(bounds) = bounds {
                match violation.limit() {
                    Limit::Upper => prop_assert!(violation.value >= bounds.high),
                    Limit::Lower => prop_assert!(violation.value <= bounds.low),
                }
            }
        }
    }
}
