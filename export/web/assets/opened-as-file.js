// Modules and WebAssembly load only from a web server.
if (location.protocol === "file:") {
  document.getElementById("status").textContent =
    "This page needs a web server. In its folder run: python -m http.server, and open http://localhost:8000";
}
