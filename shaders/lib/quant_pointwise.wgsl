// v of DyT and Derf, in the place of a norm's: there are no statistics.

fn normalized(x: Values, affine: Affine, of_gamma: Values, of_beta: Values) -> Values {
    var y: Values;
    let alpha_value = alpha[params.alpha_start];
    let shift_value = shift_value();
    for (var k = 0u; k < WIDTH; k++) {
        y[k] = of_gamma[k] * curve(argument(alpha_value, x[k], shift_value)) + of_beta[k];
    }
    return y;
}
