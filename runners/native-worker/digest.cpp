#include "digest.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace latbench {
namespace {

constexpr std::uint32_t kRounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

class Sha256 {
 public:
    void add(const unsigned char* data, std::size_t size) {
        total_ += size;
        while (size > 0) {
            const std::size_t taken = std::min(size, sizeof pending_ - held_);
            std::memcpy(pending_ + held_, data, taken);
            held_ += taken;
            data += taken;
            size -= taken;
            if (held_ == sizeof pending_) {
                block(pending_);
                held_ = 0;
            }
        }
    }

    std::string done() {
        const std::uint64_t bits = total_ * 8;
        const unsigned char one = 0x80, zero = 0;
        add(&one, 1);
        while (held_ != 56) add(&zero, 1);
        unsigned char length[8];
        for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(bits >> (56 - 8 * i));
        add(length, sizeof length);
        std::string out;
        for (const std::uint32_t word : state_) {
            char text[9];
            std::snprintf(text, sizeof text, "%08x", word);
            out += text;
        }
        return out;
    }

 private:
    static std::uint32_t turned(std::uint32_t value, int by) {
        return value >> by | value << (32 - by);
    }

    void block(const unsigned char* data) {
        std::uint32_t w[64];
        for (int i = 0; i < 16; ++i) {
            w[i] = std::uint32_t{data[4 * i]} << 24 | std::uint32_t{data[4 * i + 1]} << 16 |
                   std::uint32_t{data[4 * i + 2]} << 8 | std::uint32_t{data[4 * i + 3]};
        }
        for (int i = 16; i < 64; ++i) {
            const std::uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + (turned(x, 7) ^ turned(x, 18) ^ x >> 3) + w[i - 7] +
                   (turned(y, 17) ^ turned(y, 19) ^ y >> 10);
        }
        auto [a, b, c, d, e, f, g, h] = state_;
        for (int i = 0; i < 64; ++i) {
            const std::uint32_t one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) +
                                      ((e & f) ^ (~e & g)) + kRounds[i] + w[i];
            const std::uint32_t two =
                (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
        }
        const std::uint32_t added[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8; ++i) state_[static_cast<std::size_t>(i)] += added[i];
    }

    std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char pending_[64] = {};
    std::size_t held_ = 0;
    std::uint64_t total_ = 0;
};

}  // namespace

std::string sha256(const void* data, std::size_t size) {
    Sha256 digest;
    digest.add(static_cast<const unsigned char*>(data), size);
    return digest.done();
}

std::optional<std::string> file_sha256(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                               &std::fclose);
    if (!file) return std::nullopt;
    Sha256 digest;
    std::vector<unsigned char> part(1 << 18);
    while (const std::size_t count = std::fread(part.data(), 1, part.size(), file.get())) {
        digest.add(part.data(), count);
    }
    if (std::ferror(file.get())) return std::nullopt;
    return digest.done();
}

std::uint32_t crc32(const void* data, std::size_t size) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320 : 0);
            made[i] = value;
        }
        return made;
    }();
    std::uint32_t value = 0xFFFFFFFF;
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < size; ++i) value = value >> 8 ^ table[(value ^ bytes[i]) & 0xFF];
    return ~value;
}

}  // namespace latbench
