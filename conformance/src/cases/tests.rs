use std::collections::HashSet;

use super::*;

#[test]
fn every_op_and_storage_meets_every_shape_value_and_choice() {
    let large = SHAPES.iter().filter(|shape| is_large(shape)).count();
    let each = 1 + SHAPES.len() - large / 2 + Values::ALL.len() * SMALL.len() + Gradients::ALL.len();
    let all = cases();
    let list: Vec<Case> = all.iter().copied().filter(|case| case.quantised.is_none()).collect();
    assert_eq!(list.len(), VARIANTS.len() * Storage::ALL.len() * each);
    for (op, std) in VARIANTS {
        for storage in Storage::ALL {
            let of_kind = |p: &Problem| (p.op(), p.std(), p.storage()) == (op, std, storage);
            let kind: Vec<&Case> = list.iter().filter(|case| of_kind(&case.problem)).collect();
            assert_eq!(kind.len(), each);
            let has = |found: &dyn Fn(&Case) -> bool| kind.iter().any(|case| found(case));
            assert!(Values::ALL.iter().all(|values| has(&|case| case.values == *values)));
            assert!(Gradients::ALL.iter().all(|asked| has(&|case| case.gradients == *asked)));
            assert!(Statistics::ALL.iter().all(|saved| has(&|case| case.statistics == *saved)));
            assert!(has(&|case| case.residual && case.in_place && case.problem.inner() == 1));
            assert!(has(&|case| case.residual && case.problem.inner() > 1));
            assert!(has(&|case| case.in_place) && has(&|case| !case.gamma) && has(&|case| !case.beta));
            let offset = |case: &Case| case.gamma && case.problem.gamma_offset() != 0.0;
            assert!(has(&|case| offset(case) && case.problem.inner() == 1));
            assert!(has(&|case| offset(case) && case.problem.inner() > 1));
            assert!(has(&|case| !case.gamma && case.problem.gamma_offset() != 0.0));
            let shared = |case: &Case| case.gamma && case.problem.param_groups() > 1;
            assert!(has(&|case| shared(case) && case.problem.heads() == 1));
            assert!(has(&|case| case.has_y_strides() && case.problem.heads() > 1));
        }
        // What is rarer, for each op in some storage.
        let some = |found: &dyn Fn(&Case) -> bool| {
            list.iter().any(|case| (case.problem.op(), case.problem.std()) == (op, std) && found(case))
        };
        let shared = |case: &Case| case.gamma && case.problem.param_groups() > 1;
        assert!(some(&|case| shared(case) && case.problem.heads() > 1));
        assert!(some(&|case| shared(case) && case.problem.inner() > 1));
        assert!(some(&|case| case.has_y_strides() && case.problem.inner() > 1));
        assert!(some(&|case| case.residual && case.problem.heads() > 1));
        for &(rows, cols, inner, _) in &SHAPES {
            let cols = if std == Std::Unbiased { cols.max(2) } else { cols };
            let of_shape = |p: &Problem| (p.total_rows(), p.cols(), p.inner()) == (rows, cols, inner);
            assert!(some(&|case| of_shape(&case.problem)), "{op} {rows}x{cols}x{inner}");
        }
    }
    assert_eq!(all, cases(), "the list is the same each time");
}

#[test]
fn every_op_and_storage_meets_every_quantised_y() {
    let quantised: Vec<Case> = cases().into_iter().filter(|case| case.quantised.is_some()).collect();
    for (op, std) in VARIANTS {
        for storage in Storage::ALL {
            let of_kind = |p: &Problem| (p.op(), p.std(), p.storage()) == (op, std, storage);
            let kind: Vec<&Case> = quantised.iter().filter(|case| of_kind(&case.problem)).collect();
            let has = |found: &dyn Fn(&Case) -> bool| kind.iter().any(|case| found(case));
            for way in Quantised::all() {
                assert!(has(&|case| case.quantised == Some(way)), "{op} {way:?}");
            }
            assert!(has(&|case| case.problem.inner() > 1) && has(&|case| case.problem.inner() == 1));
            assert!(has(&|case| case.residual && case.problem.inner() == 1));
            assert!(has(&|case| !case.gamma) && has(&|case| !case.beta));
            assert!(has(&|case| case.gamma && case.problem.gamma_offset() != 0.0));
        }
    }
    assert!(quantised.iter().any(|case| case.residual && case.in_place && case.problem.inner() > 1));
    for values in Values::ALL {
        for way in Quantised::all() {
            let met = |case: &&Case| case.values == values && case.quantised == Some(way);
            assert!(quantised.iter().any(|case| met(&case)), "{values} {way:?}");
        }
    }
}

#[test]
fn the_quick_list_has_every_op_and_storage() {
    let (quick, all) = (quick_cases(), cases());
    let kinds = quick.iter().map(|case| {
        let p = &case.problem;
        (p.op(), p.std(), p.storage())
    });
    assert_eq!(kinds.collect::<HashSet<_>>().len(), VARIANTS.len() * Storage::ALL.len());
    assert!(quick.iter().all(|case| all.contains(case)));
}
