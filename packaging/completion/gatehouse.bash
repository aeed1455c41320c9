# Completion of gatehouse for bash: the program itself says what could come next.

_gatehouse() {
  local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
  [[ $cur == -* ]] && words+=("$cur")
  mapfile -t COMPREPLY < <(compgen -W "$(gatehouse "${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur")
}

complete -o bashdefault -o default -F _gatehouse gatehouse
