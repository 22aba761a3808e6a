import Foundation

/// Makes the inputs of an artifact, as docs/PROTOCOL.md describes ("Seeded inputs"). `stored` holds
/// the arrays of inputs that come from files. Throws ``Refusal`` for a content that does not fit.
func makeInputs(_ specs: [TensorSpec], seed: UInt64, stored: [String: Tensor]) throws -> [Tensor] {
    try specs.enumerated().map { try input($1, seed: seed, index: $0, stored: stored) }
}

private func input(
    _ spec: TensorSpec, seed: UInt64, index: Int, stored: [String: Tensor]
) throws -> Tensor {
    if let content = spec.content, content.hasPrefix("sha256:") {
        guard let found = stored[spec.name] else {
            throw Refusal("the array of input \(shown(spec.name)) is missing: \(content)")
        }
        guard found.type.rawValue == spec.dtype, found.shape == spec.shape else {
            throw Refusal(
                "the array of input \(shown(spec.name)) is \(found.type) \(found.shape), "
                    + "not \(spec.dtype) \(spec.shape)")
        }
        return found
    }
    guard let type = ElementType(rawValue: spec.dtype) else {
        throw Refusal(
            "input \(shown(spec.name)) has elements of \(spec.dtype), which the Swift worker does "
                + "not support", hint: "Core ML takes floats and int32")
    }
    var made = try Tensor(type, spec.shape)
    switch try Content(spec.content, of: spec, seed: seed) {
    case .noise(let own): fillNoise(&made, start: start(own, index))
    case .uniform(let low, let high):
        try fillUniform(&made, spec, low, high, start: start(seed, index))
    case .values(let texts): try fillValues(&made, spec, texts)
    }
    return made
}

/// What an input holds, as its text says.
private enum Content {
    case noise(seed: UInt64)
    case uniform(low: String, high: String)
    case values([String])

    static let number = "[+-]?(?:[0-9]+\\.?[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?"

    init(_ given: String?, of spec: TensorSpec, seed: UInt64) throws {
        guard var text = given else {
            self = .noise(seed: seed)
            return
        }
        text = ["true": "1", "false": "0"][text.lowercased()] ?? text
        if text.hasPrefix("random:") {
            let digits = text.dropFirst("random:".count)
            guard !digits.isEmpty, digits.utf8.allSatisfy({ 0x30...0x39 ~= $0 }) else {
                throw Refusal("\(shown(text)) is not random:SEED with a whole number")
            }
            // Modulo 2⁶⁴: the formula uses no more of it.
            self = .noise(seed: digits.utf8.reduce(0) { $0 &* 10 &+ UInt64($1 - 0x30) })
        } else if matches(text, "\(Content.number):\(Content.number)") {
            let ends = text.split(separator: ":").map(String.init)
            let (low, high) = (real(ends[0]), real(ends[1]))
            guard low <= high, high < .infinity else {
                throw Refusal("\(shown(text)) is not a range LOW:HIGH with LOW up to HIGH")
            }
            self = .uniform(low: ends[0], high: ends[1])
        } else if matches(text, "\(Content.number)(?:,\(Content.number))*") {
            self = .values(text.split(separator: ",").map(String.init))
        } else {
            throw Refusal("input \(shown(spec.name)) cannot hold \(shown(text))")
        }
    }
}

private func matches(_ text: String, _ pattern: String) -> Bool {
    text.range(of: "\\A(?:\(pattern))\\z", options: .regularExpression) != nil
}

private func real(_ text: String) -> Double { strtod(text, nil) }

/// SplitMix64 (Steele, Lea & Flood 2014, OOPSLA) of a counter.
private func mixed(_ counter: UInt64) -> UInt64 {
    var z = counter &* 0x9E37_79B9_7F4A_7C15
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
}

private func start(_ seed: UInt64, _ index: Int) -> UInt64 {
    seed << 32 &+ UInt64(index) << 56
}

/// On [0, 1).
private func unit(_ bits: UInt64) -> Float { Float(bits >> 40) * 0x1p-24 }

private func fillNoise(_ tensor: inout Tensor, start: UInt64) {
    let (type, root) = (tensor.type, Float(3.0.squareRoot()))
    tensor.fill { index, place in
        let z = mixed(start &+ UInt64(index))
        if type.isFloat {
            Tensor.store(Double((unit(z) * 2 - 1) * root), at: place, type)
        } else {
            Tensor.store(z >> 63, at: place, type)
        }
    }
}

private func fillUniform(
    _ tensor: inout Tensor, _ spec: TensorSpec, _ low: String, _ high: String, start: UInt64
) throws {
    let type = tensor.type
    if type.isFloat {
        // The ends are first rounded to the type of the input.
        let first = rounded(try fraction(low, spec, type), type)
        let span = rounded(try fraction(high, spec, type), type) - first
        tensor.fill { index, place in
            let scaled = unit(mixed(start &+ UInt64(index))) * span
            Tensor.store(Double(scaled + first), at: place, type)
        }
        return
    }
    let first = try whole(low, spec, type)
    let count = try whole(high, spec, type) &- first &+ 1
    tensor.fill { index, place in
        let z = mixed(start &+ UInt64(index))
        // The range of all 64-bit numbers has 2⁶⁴ of them, which is 0 here.
        Tensor.store((count == 0 ? z : z % count) &+ first, at: place, type)
    }
}

private func fillValues(_ tensor: inout Tensor, _ spec: TensorSpec, _ texts: [String]) throws {
    guard texts.count == 1 || texts.count == tensor.count else {
        throw Refusal(
            "input \(shown(spec.name)) has \(tensor.count) elements, but \(texts.count) values are "
                + "given", hint: "give one value for all elements, or one for each")
    }
    let type = tensor.type
    if type.isFloat {
        let values = try texts.map { try fraction($0, spec, type) }
        tensor.fill { index, place in
            Tensor.store(values[values.count == 1 ? 0 : index], at: place, type)
        }
    } else {
        let values = try texts.map { try whole($0, spec, type) }
        tensor.fill { index, place in
            Tensor.store(values[values.count == 1 ? 0 : index], at: place, type)
        }
    }
}

private func rounded(_ value: Double, _ type: ElementType) -> Float {
    type == .float16 ? floatOfHalf(halfOf(value)) : Float(value)
}

private func fraction(_ text: String, _ spec: TensorSpec, _ type: ElementType) throws -> Double {
    let limit = type == .float16 ? 65504 : type == .float32 ? Double(Float.greatestFiniteMagnitude)
        : Double.greatestFiniteMagnitude
    let value = real(text)
    guard value.magnitude <= limit else {
        let bound = String(format: "%g", limit)
        throw beyond(text, spec, "-\(bound) to \(bound)")
    }
    return value
}

/// A whole number in the range of the type, as two's complement.
private func whole(_ text: String, _ spec: TensorSpec, _ type: ElementType) throws -> UInt64 {
    let signed = [.int8, .int16, .int32, .int64].contains(type)
    let bits = type == .bool ? 1 : type.bytes * 8
    let limits = signed
        ? "\(Int64.min >> (64 - bits)) to \(Int64.max >> (64 - bits))"
        : "0 to \(UInt64.max >> (64 - bits))"
    var digits = text.hasPrefix("+") ? String(text.dropFirst()) : text
    if !matches(digits, "-?[0-9]+") {
        let value = real(text)
        guard value == value.rounded(.towardZero) else {
            throw Refusal(
                "input \(shown(spec.name)) holds whole numbers (\(spec.dtype)), not \(text)")
        }
        guard value.magnitude < 1e19 else { throw beyond(text, spec, limits) }
        digits = String(format: "%.0f", value)
    }
    if signed {
        guard let value = Int64(digits), value >> (bits - 1) == 0 || value >> (bits - 1) == -1
        else { throw beyond(text, spec, limits) }
        return UInt64(bitPattern: value)
    }
    // `-0` is a number too.
    let plain = Int64(digits) == 0 ? "0" : digits
    guard let value = UInt64(plain), value <= UInt64.max >> (64 - bits) else {
        throw beyond(text, spec, limits)
    }
    return value
}

private func beyond(_ text: String, _ spec: TensorSpec, _ limits: String) -> Refusal {
    Refusal(
        "\(text) is out of range for input \(shown(spec.name)) of type \(spec.dtype)",
        hint: "\(spec.dtype) holds \(limits)")
}
