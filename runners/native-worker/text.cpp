#include "text.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "json.h"

namespace latbench {

std::string_view stripped(std::string_view text) {
    constexpr std::string_view around{"\0\n \t", 4};
    const std::size_t first = text.find_first_not_of(around);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(around) - first + 1);
}

bool is_decimal(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(),
                                        [](char letter) { return letter >= '0' && letter <= '9'; });
}

std::optional<std::int64_t> decimal(std::string_view text) {
    if (!is_decimal(text) || text.size() > 19) return std::nullopt;
    std::uint64_t value = 0;
    for (const char digit : text) value = value * 10 + static_cast<std::uint64_t>(digit - '0');
    if (value > INT64_MAX) return std::nullopt;
    return static_cast<std::int64_t>(value);
}

std::optional<std::int64_t> read_number(const std::string& path) {
    const std::optional<std::string> text = read_text(path);
    return text ? decimal(*text) : std::nullopt;
}

std::vector<std::string> split(std::string_view text, char at) {
    std::vector<std::string> parts;
    while (true) {
        const std::size_t end = text.find(at);
        parts.emplace_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

std::vector<std::string> words(std::string_view text) {
    std::vector<std::string> found;
    std::string word;
    for (const char letter : text) {
        if (!std::isspace(static_cast<unsigned char>(letter))) {
            word.push_back(letter);
        } else if (!word.empty()) {
            found.push_back(std::exchange(word, {}));
        }
    }
    if (!word.empty()) found.push_back(word);
    return found;
}

bool starts_with(std::string_view text, std::string_view start) {
    return text.substr(0, start.size()) == start;
}

std::string lower(std::string text) {
    for (char& letter : text) {
        letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    }
    return text;
}

std::optional<std::string> read_bytes(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return std::nullopt;
    std::string bytes;
    std::vector<char> part(1 << 16);
    ssize_t count;
    while ((count = read(file, part.data(), part.size())) > 0) {
        bytes.append(part.data(), static_cast<std::size_t>(count));
    }
    const int reason = errno;
    close(file);
    errno = reason;
    if (count < 0) return std::nullopt;
    return bytes;
}

std::optional<std::string> read_text(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                               &std::fclose);
    if (!file) return std::nullopt;
    constexpr std::size_t most = 1'000'000;
    std::string text;
    char part[4096];
    while (text.size() < most) {
        const std::size_t count = std::fread(part, 1, sizeof part, file.get());
        if (count == 0) break;
        text.append(part, std::min(count, most - text.size()));
    }
    if (std::ferror(file.get()) || !json::is_utf8(text)) return std::nullopt;
    return std::string(stripped(text));
}

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> found;
    const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(folder.c_str()), &closedir);
    if (!open) return found;
    while (const dirent* entry = readdir(open.get())) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") found.push_back(name);
    }
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace latbench
