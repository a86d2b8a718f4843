#include "model.hpp"

template class mtp::language_model<config, mtp::cpu>;
template class mtp::generator<config, mtp::cpu>;
template class mtp::trainer<config, mtp::cpu>;
