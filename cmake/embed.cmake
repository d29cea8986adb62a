# Writes OUT: the YAML files of FILES as string literals, in the list NAME (see src/machine/presets.h).
set(text "#include \"machine/presets.h\"\nnamespace systole {\nnamespace {\nconstexpr Preset kList[] = {\n")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} yaml)
  string(APPEND text "    {\"${name}\", R\"yaml(${yaml})yaml\"},\n")
endforeach()
string(APPEND text "};\n}\nconst std::span<const Preset> ${NAME} = kList;\n}\n")
file(WRITE ${OUT} "${text}")
