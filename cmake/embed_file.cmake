# cmake -DOUTPUT=x.c -DINPUT=file -DNAME=symbol -P embed_file.cmake
#
# Write a C file with INPUT as the NUL-terminated array NAME.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
get_filename_component(file ${INPUT} NAME)
file(WRITE ${OUTPUT}
"/* Made by cmake/embed_file.cmake from ${file}. */
extern const char ${NAME}[];
const char ${NAME}[] = {${bytes}0};
")
