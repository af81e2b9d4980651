/* target.h: TARGET(features, more) compiles the rest of the file for an instruction set, until
   END_TARGET.  gcc and clang spell this differently; `more` holds what only gcc knows. */
#define PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define TARGET(features, more) \
    PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END_TARGET PRAGMA(clang attribute pop)
#else
#define TARGET(features, more) PRAGMA(GCC target(features more))
#define END_TARGET
#endif
