// The forward of a norm on channels-first data, by elements.

fn run(workgroup: u32, index: u32) {
    let at = position_of(workgroup, index);
    let x_begin = params.x_start + at.begin;
    var m = 0.0;
    if CENTER {
        m = first_origin(x_begin, at.line, index);
    }
    var cascade = Cascade();
    for (var c = at.line; c < params.cols; c += FIRST_STEPS * LINES) {
        var part = vec4<f32>();
        for (var column = c; column < min(params.cols, c + FIRST_STEPS * LINES); column += LINES) {
            let d = unpack(x_block(x_begin + column * params.inner))[0] - m;
            part += vec4<f32>(d * d, d, 0.0, 0.0);
        }
        add_to_cascade(&cascade, part);
    }
    let affine = affine_of(m, line_sum(cascade_sum(cascade), index));
    if at.live && at.line == 0u {
        save_statistics(at.row, affine);
    }
    if any_of_workgroup(affine.stray && at.live, index) {
        let end = select(0u, params.cols, affine.stray && at.live);
        stray_forward(at.row, x_begin, params.out_start + at.begin, end, index);
    }
    if !at.live || affine.stray {
        return;
    }
    for (var column = at.line; column < params.cols; column += LINES) {
        let element = column * params.inner;
        let y = normalized(unpack(x_block(x_begin + element)), affine, gamma_at(column), beta_at(column));
        store(params.out_start + at.begin + element, y);
    }
}
