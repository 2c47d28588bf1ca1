// A sum of any number of terms of which no accumulator takes more than 32 in a row, up to 32^3 of them. What compensates
// by what rounding took away would be simpler, but a driver may shorten it.
struct Cascade {
    count: u32,
    terms: vec4<f32>,
    sums: vec4<f32>,
    total: vec4<f32>,
}

fn add_to_cascade(cascade: ptr<function, Cascade>, term: vec4<f32>) {
    (*cascade).terms += term;
    (*cascade).count += 1u;
    if (*cascade).count % 32u == 0u {
        (*cascade).sums += (*cascade).terms;
        (*cascade).terms = vec4<f32>();
        if (*cascade).count % 1024u == 0u {
            (*cascade).total += (*cascade).sums;
            (*cascade).sums = vec4<f32>();
        }
    }
}

fn cascade_sum(cascade: Cascade) -> vec4<f32> {
    return cascade.total + (cascade.sums + cascade.terms);
}
