//! Tests of domains: what is drawn lies inside and covers everything; moves change a value; bounds that cannot be.

use std::collections::BTreeSet;

use super::*;
use crate::rng::stream;

fn int(low: i64, high: i64, step: i64, scale: Scale) -> Domain {
    Domain::Int { low, high, step, scale }
}

fn float(low: f64, high: f64, scale: Scale) -> Domain {
    Domain::Float { low, high, scale }
}

#[test]
fn wrong_bounds_are_told_apart() {
    let word = |value: &str| ParamValue::from(value);
    for (domain, expected) in [
        (Domain::Category(vec![]), "empty"),
        (Domain::Category(vec![word("a"), word("b"), word("a")]), "`range` has a twice"),
        (int(3, 2, 1, Scale::Linear), "[3, 2]: the least comes first"),
        (int(0, 8, 1, Scale::Log), "begins at 0"),
        (int(1, 8, 2, Scale::Log), "`step` goes with INT alone"),
        (int(1, 8, 0, Scale::Linear), "`step` is 0"),
        (float(0.0, 1.0, Scale::Log), "begins at 0"),
        (float(1.0, 0.0, Scale::Linear), "[1, 0]"),
        (float(f64::MIN, f64::MAX, Scale::Linear), "finite"),
        (float(f64::NAN, 1.0, Scale::Linear), "finite"),
    ] {
        let text = domain.check().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn every_integer_is_drawn_and_moved_to_and_no_other_is() {
    for domain in [int(-3, 7, 5, Scale::Linear), int(2, 6, 1, Scale::Log), int(5, 6, 1, Scale::Linear)] {
        let mut rng = stream(1, 1);
        let drawn: BTreeSet<i64> = (0..500).filter_map(|_| domain.sample(&mut rng).as_i64()).collect();
        assert_eq!(drawn.len() as u64, domain.count().unwrap(), "{domain:?}: {drawn:?}");
        let first = ParamValue::Int(*drawn.first().unwrap());
        let reached: BTreeSet<i64> = (0..500).filter_map(|_| domain.step(&first, &mut rng).as_i64()).collect();
        assert_eq!(reached.len(), drawn.len() - 1, "{domain:?}: a step always changes the value, and may go anywhere");
    }
}

#[test]
fn a_logarithmic_range_gives_each_decade_its_share() {
    let mut rng = stream(1, 2);
    for domain in [float(1e-5, 1e-1, Scale::Log), int(1, 9999, 1, Scale::Log)] {
        let low = domain.at(0.0).as_f64().unwrap();
        let mut decades = [0_u32; 4];
        for _ in 0..4000 {
            let value = domain.sample(&mut rng).as_f64().unwrap();
            decades[((value / low).log10() as usize).min(3)] += 1;
        }
        // Integers below 10 have the logarithms from 0.5 on.
        let even = |count: &u32| (700..1400).contains(count);
        assert!(decades.iter().all(even), "{domain:?}: {decades:?}");
    }
}

#[test]
fn a_float_is_drawn_with_few_digits_but_never_outside_of_its_range() {
    let mut rng = stream(1, 3);
    for domain in [
        float(1e-5, 1e-1, Scale::Log),
        float(0.1, 0.1 + 1e-9, Scale::Linear),
        float(-1e12, 1e12, Scale::Linear),
        float(1.0 / 3.0, 2.0 / 3.0, Scale::Linear),
        float(1e-300, 1e300, Scale::Log),
    ] {
        for _ in 0..200 {
            let value = domain.sample(&mut rng);
            assert!(domain.contains(&value), "{domain:?}: {value}");
        }
    }
    let digits = |value: ParamValue| value.to_string().chars().filter(char::is_ascii_digit).count();
    assert!((0..200).all(|_| digits(float(0.0, 1.0, Scale::Linear).sample(&mut rng)) <= 8));
}

#[test]
fn places_lead_to_values_and_back() {
    for domain in [
        float(1e-5, 1e-1, Scale::Log),
        float(-2.0, 5.0, Scale::Linear),
        int(0, 100, 7, Scale::Linear),
        int(1, 1000, 1, Scale::Log),
        Domain::Category(vec![true.into(), 3.into(), "x".into()]),
        int(i64::MIN, i64::MAX, 1, Scale::Linear),
    ] {
        let mut last = None;
        for place in 0..=20 {
            let value = domain.at(f64::from(place) / 20.0);
            let unit = domain.unit(&value).unwrap_or_else(|| panic!("{domain:?}: {value}"));
            assert_eq!(domain.at(unit), value, "{domain:?}");
            assert!(last.is_none_or(|last| last <= unit), "{domain:?}: {value} is out of order");
            last = Some(unit);
        }
    }
    assert_eq!(float(0.0, 1.0, Scale::Linear).unit(&2.into()), None);
}

#[test]
fn values_beside_are_next_to_one_and_inside() {
    let domain = int(0, 10, 5, Scale::Linear);
    assert_eq!(domain.beside(&5.into()), [0.into(), 10.into()]);
    assert_eq!(domain.beside(&10.into()), [5.into()]);
    let domain = float(0.0, 1.0, Scale::Linear);
    let beside = domain.beside(&ParamValue::float(0.05).unwrap());
    assert_eq!(beside, [0.0, 0.15].map(|value| ParamValue::float(value).unwrap()));
    assert_eq!(float(1.0, 1.0, Scale::Linear).beside(&ParamValue::float(1.0).unwrap()), []);
}
