// Loads LiteRT.js's WebAssembly; stands in for the module that LiteRT.js imports for it (see the import map in
// index.html), and keeps its log out of the console's errors.

export async function createWasmLib(Library, script) {
  await new Promise((loaded, failed) => {
    const element = document.createElement("script");
    element.src = script;
    element.onload = loaded;
    element.onerror = () => failed(new Error(`cannot load ${script}`));
    document.head.append(element);
  });
  const factory = self.ModuleFactory;
  self.ModuleFactory = undefined;
  return new Library(await factory({ print: console.debug, printErr: console.debug }));
}
