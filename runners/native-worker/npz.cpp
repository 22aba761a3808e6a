#include "npz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "digest.h"
#include "failure.h"

namespace latbench {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the files are little-endian");

struct Damaged : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A file in memory.
class Mapped {
 public:
    explicit Mapped(const std::string& path) {
        const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (file < 0) throw Damaged(std::strerror(errno));
        struct stat facts{};
        if (fstat(file, &facts) != 0 || !S_ISREG(facts.st_mode)) {
            close(file);
            throw Damaged("not a file");
        }
        size_ = static_cast<std::size_t>(facts.st_size);
        if (size_ > 0) {
            data_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
            if (data_ == MAP_FAILED) data_ = nullptr;
        }
        close(file);
        if (data_ == nullptr) throw Damaged("it cannot be mapped, or is empty");
    }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;
    ~Mapped() {
        if (data_ != nullptr) munmap(data_, size_);
    }
    std::string_view all() const { return {static_cast<const char*>(data_), size_}; }

 private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

std::string_view part(std::string_view whole, std::uint64_t at, std::uint64_t size) {
    if (at > whole.size() || size > whole.size() - at) throw Damaged("it ends early");
    return whole.substr(at, size);
}

template <typename T>
T number(std::string_view whole, std::uint64_t at) {
    T value;
    std::memcpy(&value, part(whole, at, sizeof value).data(), sizeof value);
    return value;
}

constexpr std::uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator = 0x07064b50,
                        kEntry = 0x02014b50, kLocal = 0x04034b50, kSee64 = 0xFFFFFFFF;

struct Directory {
    std::uint64_t count, at;
};

Directory directory(std::string_view file) {
    constexpr std::size_t fixed = 22, longest_comment = 65535;
    for (std::size_t back = fixed; back <= file.size() && back <= fixed + longest_comment; ++back) {
        const std::size_t at = file.size() - back;
        if (number<std::uint32_t>(file, at) != kEnd) continue;
        if (number<std::uint16_t>(file, at + 20) != back - fixed) continue;
        if (at >= 20 && number<std::uint32_t>(file, at - 20) == kLocator) {
            const auto far = number<std::uint64_t>(file, at - 12);
            if (number<std::uint32_t>(file, far) != kEnd64) throw Damaged("a directory is missing");
            return {number<std::uint64_t>(file, far + 32), number<std::uint64_t>(file, far + 48)};
        }
        return {number<std::uint16_t>(file, at + 10), number<std::uint32_t>(file, at + 16)};
    }
    throw Damaged("it is not a zip archive");
}

struct Entry {
    std::string name;
    std::uint64_t stored, size, local, next;
    std::uint32_t crc;
};

Entry entry(std::string_view file, std::uint64_t at) {
    if (number<std::uint32_t>(file, at) != kEntry) throw Damaged("an entry is missing");
    const auto flags = number<std::uint16_t>(file, at + 8);
    const auto method = number<std::uint16_t>(file, at + 10);
    const std::uint64_t name = number<std::uint16_t>(file, at + 28);
    const std::uint64_t extra = number<std::uint16_t>(file, at + 30);
    const std::uint64_t comment = number<std::uint16_t>(file, at + 32);
    Entry found{std::string(part(file, at + 46, name)), number<std::uint32_t>(file, at + 20),
                number<std::uint32_t>(file, at + 24),   number<std::uint32_t>(file, at + 42),
                at + 46 + name + extra + comment,       number<std::uint32_t>(file, at + 16)};
    if ((flags & 1) != 0) throw Damaged(shown(found.name) + " is encrypted");
    if (method != 0) {
        throw Damaged(shown(found.name) +
                      " is compressed, which the native worker does not read; numpy.savez writes "
                      "arrays as they are");
    }
    std::string_view extras = part(file, at + 46 + name, extra);
    while (extras.size() >= 4) {
        const auto kind = number<std::uint16_t>(extras, 0);
        std::string_view field = part(extras, 4, number<std::uint16_t>(extras, 2));
        extras.remove_prefix(4 + field.size());
        if (kind != 1) continue;
        for (std::uint64_t* value : {&found.size, &found.stored, &found.local}) {
            if (*value != kSee64) continue;
            *value = number<std::uint64_t>(field, 0);
            field.remove_prefix(8);
        }
    }
    return found;
}

std::string_view content(std::string_view file, const Entry& entry) {
    if (number<std::uint32_t>(file, entry.local) != kLocal) throw Damaged("a member is missing");
    const std::uint64_t at = entry.local + 30 + number<std::uint16_t>(file, entry.local + 26) +
                             number<std::uint16_t>(file, entry.local + 28);
    const std::string_view found = part(file, at, entry.stored);
    if (entry.stored != entry.size) throw Damaged(shown(entry.name) + " has two sizes");
    if (crc32(found.data(), found.size()) != entry.crc) {
        throw Damaged(shown(entry.name) + " has another checksum");
    }
    return found;
}

// Reads the header of an array: a Python dictionary with three fixed keys.
class Header {
 public:
    explicit Header(std::string_view text) : text_(text) {
        expect('{');
        while (!take('}')) {
            const std::string key = string();
            expect(':');
            if (key == "descr") {
                descr = string();
            } else if (key == "fortran_order") {
                fortran = word() == "True";
            } else if (key == "shape") {
                shape = sizes();
            } else {
                throw Damaged("an array has the unknown key " + shown(key));
            }
            if (!take(',')) {
                expect('}');
                break;
            }
        }
    }

    std::string descr;
    std::optional<bool> fortran;
    std::optional<std::vector<std::int64_t>> shape;

 private:
    void skip() {
        while (!text_.empty() && std::isspace(static_cast<unsigned char>(text_[0]))) {
            text_.remove_prefix(1);
        }
    }

    bool take(char wanted) {
        skip();
        if (text_.empty() || text_[0] != wanted) return false;
        text_.remove_prefix(1);
        return true;
    }

    void expect(char wanted) {
        if (!take(wanted)) throw Damaged("an array has a damaged header");
    }

    std::string string() {
        skip();
        if (text_.empty() || (text_[0] != '\'' && text_[0] != '"')) {
            throw Damaged("an array has elements of several parts, or a damaged header");
        }
        const std::size_t end = text_.find(text_[0], 1);
        if (end == std::string_view::npos) throw Damaged("an array has a damaged header");
        std::string found(text_.substr(1, end - 1));
        text_.remove_prefix(end + 1);
        return found;
    }

    std::string word() {
        skip();
        std::size_t end = 0;
        while (end < text_.size() && std::isalpha(static_cast<unsigned char>(text_[end]))) ++end;
        std::string found(text_.substr(0, end));
        text_.remove_prefix(end);
        return found;
    }

    std::vector<std::int64_t> sizes() {
        std::vector<std::int64_t> found;
        expect('(');
        while (!take(')')) {
            skip();
            std::int64_t size = 0;
            std::size_t end = 0;
            while (end < text_.size() && text_[end] >= '0' && text_[end] <= '9') {
                if (size > (INT64_MAX - 9) / 10) throw Damaged("an array is too large");
                size = size * 10 + (text_[end++] - '0');
            }
            if (end == 0) throw Damaged("an array has a damaged header");
            text_.remove_prefix(end);
            found.push_back(size);
            if (!take(',')) {
                expect(')');
                break;
            }
        }
        return found;
    }

    std::string_view text_;
};

Type type_of(const std::string& descr) {
    const auto known = [&](char kind, std::size_t bytes) -> std::optional<Type> {
        switch (kind) {
            case 'f':
                return type_named("float" + std::to_string(bytes * 8));
            case 'i':
                return type_named("int" + std::to_string(bytes * 8));
            case 'u':
                return type_named("uint" + std::to_string(bytes * 8));
            case 'b':
                return bytes == 1 ? std::optional<Type>(Type::boolean) : std::nullopt;
            default:
                return std::nullopt;
        }
    };
    if (descr.size() == 3 && (descr[0] == '<' || descr[0] == '|') && descr[2] > '0' &&
        descr[2] <= '9') {
        if (const auto type = known(descr[1], static_cast<std::size_t>(descr[2] - '0')))
            return *type;
    }
    throw Damaged("elements of type " + shown(descr) + " are not read by the native worker");
}

// Copies elements in Fortran order into C order.
void transpose(Tensor& into, const char* from) {
    const std::size_t bytes = type_bytes(into.type()), rank = into.shape().size();
    std::vector<std::int64_t> index(rank, 0);
    auto* out = into.as<char>();
    for (std::size_t i = 0; i < into.count(); ++i) {
        std::size_t at = 0;
        for (std::size_t axis = rank; axis-- > 0;) {
            at = at * static_cast<std::size_t>(into.shape()[axis]) +
                 static_cast<std::size_t>(index[axis]);
        }
        std::memcpy(out + i * bytes, from + at * bytes, bytes);
        for (std::size_t axis = rank; axis-- > 0;) {
            if (++index[axis] < into.shape()[axis]) break;
            index[axis] = 0;
        }
    }
}

Tensor array(std::string_view content) {
    if (part(content, 0, 6) != std::string_view("\x93NUMPY", 6)) {
        throw Damaged("a member is not an array");
    }
    const auto version = number<std::uint8_t>(content, 6);
    if (version < 1 || version > 3) throw Damaged("an array has an unknown version");
    const std::uint64_t length =
        version == 1 ? number<std::uint16_t>(content, 8) : number<std::uint32_t>(content, 8);
    const std::uint64_t start = version == 1 ? 10 : 12;
    const Header header(part(content, start, length));
    if (!header.shape || !header.fortran) throw Damaged("an array has a damaged header");
    const Type type = type_of(header.descr);
    // Compared with what is there before memory is requested.
    const std::size_t count = element_count(*header.shape);
    if (count > content.size()) throw Damaged("it ends early");
    const std::string_view data = part(content, start + length, count * type_bytes(type));
    Tensor made(type, *header.shape);
    if (*header.fortran && made.shape().size() > 1) {
        transpose(made, data.data());
    } else if (!data.empty()) {
        std::memcpy(made.data(), data.data(), data.size());
    }
    return made;
}

}  // namespace

Stored read_npz(const std::string& path) {
    try {
        const Mapped file(path);
        const auto [count, first] = directory(file.all());
        Stored found;
        std::uint64_t at = first;
        for (std::uint64_t i = 0; i < count; ++i) {
            Entry each = entry(file.all(), at);
            at = each.next;
            const std::string_view data = content(file.all(), each);
            const std::string suffix = ".npy";
            if (each.name.size() > suffix.size() &&
                each.name.compare(each.name.size() - suffix.size(), suffix.size(), suffix) == 0) {
                each.name.resize(each.name.size() - suffix.size());
            }
            found.insert_or_assign(each.name, array(data));
        }
        return found;
    } catch (const Damaged& error) {
        throw Failure("open", "the inputs cannot be read: " + path + ": " + error.what(),
                      "the artifact cache was changed during the run; run it again");
    }
}

}  // namespace latbench
